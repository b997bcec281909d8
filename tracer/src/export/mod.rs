//! export (skeleton; see the module's owner).
