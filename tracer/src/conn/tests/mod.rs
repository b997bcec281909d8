//! Connections and protocols together, driven by events as the kernel half sends them.

mod bodies;
mod detection;
mod early;
mod endings;
mod fastcgi;
mod fastcgi_losses;
mod heads;
mod losses;
mod splits;
mod wire;
