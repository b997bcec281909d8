//! One module a group of subcommands.

pub(crate) mod config;
mod effective;
pub(crate) mod inspect;
pub(crate) mod logging;
pub(crate) mod parts;
mod reload;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod run;
mod settings;
