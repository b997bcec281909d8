//! `tracer targets` and `tracer doctor`: look, and tell.

use std::process::ExitCode;

use anyhow::Result;
use tracer::config::{DoctorOptions, TargetsOptions};
use tracer::doctor::Report;
use tracer::event::Pid;
use tracer::target::{Listing, Resolver, Selection};

/// Lists processes with sockets.
pub(crate) fn targets(options: &TargetsOptions) -> Result<ExitCode> {
    let resolver = Resolver::system();
    let selection =
        Selection::new(&options.target.selectors(), Pid(std::process::id()), &resolver)?;
    let listing = Listing::scan(&resolver, &selection);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&listing)?);
    } else {
        println!("{listing}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells whether `run` would work; so does the exit status.
pub(crate) fn doctor(options: &DoctorOptions) -> Result<ExitCode> {
    let report = Report::of_this_system();
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
