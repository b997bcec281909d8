//! Connections and HTTP/1.x together, driven by events as the kernel half sends them.

mod bodies;
mod detection;
mod early;
mod endings;
mod heads;
mod losses;
mod splits;
mod wire;
