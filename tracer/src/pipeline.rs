//! The whole sans-IO core as one value.
