//! `cargo xtask bench export`: processor time from finished spans to bytes on a socket.
//!
//! Prints one JSON document about one exporter; nothing here slows it down.

mod exporting;

use anyhow::Result;

fn main() -> Result<()> {
    println!("{}", serde_json::to_string(&exporting::run(|| {})?)?);
    Ok(())
}
