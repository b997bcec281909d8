//! target (skeleton; see the module's owner).
