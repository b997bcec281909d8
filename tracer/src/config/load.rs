//! One configuration out of the command line, the environment and a file.
//!
//! The command line wins, then `TRACER_…`, then the file, then what is built in.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _};

use super::Cli;
use super::file::{self, ConfigFile, ConfigFileError, FileError};
use super::variables::{Environment, Source, Variables};

const CONFIG_FILE: &str = "OTEL_CONFIG_FILE";
const DEPRECATED_CONFIG_FILE: &str = "OTEL_EXPERIMENTAL_CONFIG_FILE";

/// Everything that was configured.
#[derive(Debug)]
pub struct Configuration {
    /// The command with all its options.
    pub cli: Cli,
    /// `OTEL_…`.
    pub variables: Variables,
    /// The options and where they came from.
    pub options: Vec<OptionValue>,
    /// The file, if there is one.
    pub file: Option<Arc<ConfigFile>>,
    /// What to tell the operator.
    pub warnings: Vec<String>,
}

/// An option as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionValue {
    /// As on the command line.
    pub name: String,
    /// As they would be written; none if it is not set.
    pub values: Vec<String>,
    /// Where they came from.
    pub source: Source,
    /// They must not be shown.
    pub secret: bool,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The command line or a variable of ours is wrong, or only help was asked for.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The file is wrong.
    #[error(transparent)]
    File(#[from] ConfigFileError),
}

impl Configuration {
    /// Reads everything. `arguments` begin with the program's name.
    pub fn load(
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        environment: Environment,
    ) -> Result<Self, ConfigurationError> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let matches = Cli::command().try_get_matches_from(&arguments)?;
        let mut warnings = Vec::new();
        let path = path(&matches, &environment, &mut warnings);
        let (matches, file) = match path {
            None => (matches, None),
            Some(path) => {
                let file = read_file(&path, &environment)?;
                let command = file.with_defaults(Cli::command());
                (command.try_get_matches_from(&arguments)?, Some(Arc::new(file)))
            }
        };
        if let Some(file) = &file {
            let path = file.path().display();
            warnings.extend(file.warnings().iter().map(|warning| format!("{path}: {warning}")));
        }
        let options = options(&matches, file.as_deref());
        let cli = Cli::from_arg_matches(&matches)?;
        let variables = Variables::new(environment, file.clone());
        Ok(Self { cli, variables, options, file, warnings })
    }
}

/// Reads and checks a file by itself.
pub fn read_file(
    path: &std::path::Path,
    environment: &Environment,
) -> Result<ConfigFile, ConfigFileError> {
    ConfigFile::read(path, environment.as_ref(), &run_command())
}

/// Checks the content of a file that asks for no variables.
pub fn check_text(text: &str) -> Result<(), Vec<FileError>> {
    ConfigFile::parse(text, &|_| None, &run_command()).map(drop)
}

/// The command that has all options.
pub(super) fn run_command() -> Command {
    let cli = Cli::command();
    let run = cli.find_subcommand("run").cloned();
    // Invariant: it is defined beside this.
    run.unwrap_or(cli)
}

/// What the innermost command was given.
fn innermost(matches: &ArgMatches) -> (&str, &ArgMatches) {
    let mut innermost = ("", matches);
    while let Some(next) = innermost.1.subcommand() {
        innermost = next;
    }
    innermost
}

fn path(
    matches: &ArgMatches,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Option<PathBuf> {
    let (_, matches) = innermost(matches);
    // A command that takes no file has no such option.
    let chosen = matches.try_get_one::<PathBuf>("config").ok()?;
    if let Some(path) = chosen {
        return Some(path.clone());
    }
    let variable = |name| environment(name).filter(|path| !path.trim().is_empty());
    if let Some(path) = variable(CONFIG_FILE) {
        return Some(path.into());
    }
    let path = variable(DEPRECATED_CONFIG_FILE)?;
    warnings.push(format!("{DEPRECATED_CONFIG_FILE} is deprecated; use {CONFIG_FILE}"));
    Some(path.into())
}

fn options(matches: &ArgMatches, file: Option<&ConfigFile>) -> Vec<OptionValue> {
    let (_, matches) = innermost(matches);
    let command = run_command();
    let mut options = Vec::new();
    for argument in file::settable(&command) {
        let (id, name) = (argument.get_id().as_str(), argument.get_long().unwrap_or_default());
        if matches.try_contains_id(id).is_err() {
            continue;
        }
        let raw = matches.get_raw(id).into_iter().flatten();
        let values = raw.map(|value| value.to_string_lossy().into_owned()).collect();
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => Source::Flag(name.to_owned()),
            Some(ValueSource::EnvVariable) => {
                let variable = argument.get_env().unwrap_or_default();
                Source::Variable(variable.to_string_lossy().into_owned())
            }
            _ => file
                .and_then(|file| Some(Source::File(file.path().to_owned(), file.option(name)?)))
                .unwrap_or(Source::Default),
        };
        let secret = argument.is_hide_env_values_set();
        options.push(OptionValue { name: name.to_owned(), values, source, secret });
    }
    options
}
