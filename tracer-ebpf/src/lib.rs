#![no_std]
//! Event and map layouts shared by the kernel half and the agent.
