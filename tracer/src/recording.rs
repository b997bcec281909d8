//! Event logs on disk.
