//! conn (skeleton; see the module's owner).
