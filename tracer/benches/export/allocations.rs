//! `cargo xtask bench export`: allocations from finished spans to bytes on a socket.
//!
//! A program of its own, because counting them takes time.

mod exporting;

use std::alloc::System;

use anyhow::Result;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<()> {
    let mut region = Region::new(ALLOCATOR);
    let exported = exporting::run(|| region.reset())?;
    let counted = region.change();
    let spans = exported.spans as f64;
    let document = serde_json::json!({
        "allocations_per_span": (counted.allocations + counted.reallocations) as f64 / spans,
        "allocated_bytes_per_span": counted.bytes_allocated as f64 / spans,
    });
    println!("{document}");
    Ok(())
}
