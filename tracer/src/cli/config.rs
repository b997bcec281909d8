//! `tracer config`, `tracer completions` and `tracer man`: the configuration, told.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use serde_json::json;
use tracer::config::{
    Cli, Command, ConfigCommand, Configuration, Environment, ShowOptions, Source, read_file, schema,
};

use super::effective::{self, Setting};

pub(crate) fn config(
    command: &ConfigCommand,
    configuration: &Configuration,
    environment: &Environment,
) -> Result<ExitCode> {
    match command {
        ConfigCommand::Check { file } => {
            read_file(file, environment)?;
            // What only shows once everything is put together.
            let arguments = ["tracer".into(), "run".into(), "--config".into(), file.clone()];
            let whole = Configuration::load(arguments, environment.clone())?;
            if let Command::Run(options) = &whole.cli.command {
                for warning in effective::resolve(&whole, options)?.1 {
                    eprintln!("tracer: {warning}");
                }
            }
            println!("{} is valid", file.display());
        }
        ConfigCommand::Show(options) => show(options, configuration)?,
        ConfigCommand::Schema => println!("{}", serde_json::to_string_pretty(&schema())?),
    }
    Ok(ExitCode::SUCCESS)
}

fn show(options: &ShowOptions, configuration: &Configuration) -> Result<()> {
    let (settings, warnings) = effective::resolve(configuration, &options.run)?;
    if options.json {
        let settings: serde_json::Map<_, _> = settings
            .iter()
            .map(|setting| {
                let entry = json!({ "value": setting.value, "source": setting.source.to_string() });
                (setting.name.clone(), entry)
            })
            .collect();
        let all = json!({ "settings": settings, "warnings": warnings });
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    for warning in warnings {
        eprintln!("tracer: {warning}");
    }
    print!("{}", table(&settings)?);
    Ok(())
}

fn table(settings: &[Setting]) -> Result<String> {
    let width = settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
    let mut table = String::new();
    for Setting { name, value, source } in settings {
        let value = if value.is_empty() { "-" } else { value };
        match source {
            Source::Default => writeln!(table, "{name:width$}  {value}")?,
            source => writeln!(table, "{name:width$}  {value}  ({source})")?,
        }
    }
    Ok(table)
}

/// A script for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "tracer", &mut io::stdout());
}

/// A manual page.
pub(crate) fn manual(command: Option<&str>) -> Result<ExitCode> {
    let mut all = Cli::command();
    all.build();
    let chosen = match command {
        None => all,
        Some(name) => {
            let found = all.find_subcommand(name).cloned();
            found.with_context(|| format!("there is no command `{name}`"))?
        }
    };
    clap_mangen::Man::new(chosen).render(&mut io::stdout())?;
    Ok(ExitCode::SUCCESS)
}
