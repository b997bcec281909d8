#![no_std]
#![no_main]
//! eBPF programs.
