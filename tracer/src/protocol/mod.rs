//! protocol (skeleton; see the module's owner).
