//! config (skeleton; see the module's owner).
