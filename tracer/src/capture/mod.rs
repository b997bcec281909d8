//! capture (skeleton; see the module's owner).
