//! The configuration file: OpenTelemetry's declarative configuration, and the section `tracer:` for
//! what that has no words for.
//!
//! A file is read as a whole or not at all. What it says reaches the rest of the agent as the
//! variables and options that say the same. Must not know what they mean.

mod declarative;
mod decode;
mod document;
mod options;
mod sampling;
mod substitution;
mod translation;

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Command;

use declarative::Declarative;
use document::Node;
pub use document::Position;
pub(super) use options::{key, settable};
use translation::{Given, Translation};

use super::suggestion::unknown;

/// The agent's own section.
const OWN: &str = "tracer";
/// What every key of a file with OpenTelemetry's part is read against.
const FORMAT: &str = "file_format";

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FileError {
    /// Where it is, if that is known.
    pub position: Option<Position>,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl FileError {
    fn at(position: Position, message: impl Into<String>) -> Self {
        Self { position: Some(position), message: message.into() }
    }
}

/// The mistakes of a file, with the lines that they are in.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It makes no sense.
    #[error("{}", Listing { path, text, errors })]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Its content.
        text: String,
        /// All that is wrong, at least one.
        errors: Vec<FileError>,
    },
}

struct Listing<'a> {
    path: &'a Path,
    text: &'a str,
    errors: &'a [FileError],
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, FileError { position, message }) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Some(position) = position else {
                write!(f, "{}: {message}", self.path.display())?;
                continue;
            };
            write!(f, "{}:{position}: {message}", self.path.display())?;
            if let Some(line) = self.text.lines().nth(position.line - 1) {
                let (number, indent) = (position.line, position.column - 1);
                write!(f, "\n {number:>4} | {line}\n      | {:indent$}^", "")?;
            }
        }
        Ok(())
    }
}

/// An option that a file sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileOption {
    /// As on the command line.
    pub(super) name: String,
    pub(super) values: Vec<String>,
    pub(super) position: Position,
}

/// A file that makes sense.
#[derive(Debug, Default)]
pub struct ConfigFile {
    path: PathBuf,
    /// Absent if the file has no OpenTelemetry part.
    translation: Option<Translation>,
    options: Vec<FileOption>,
    warnings: Vec<String>,
}

impl ConfigFile {
    /// Reads and checks a file. `environment` fills in `${…}`; `command` is that of all options.
    pub(super) fn read(
        path: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
        command: &Command,
    ) -> Result<Self, ConfigFileError> {
        let unreadable = |source| ConfigFileError::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text, environment, command)
            .map(|file| Self { path: path.to_owned(), ..file })
            .map_err(|errors| ConfigFileError::Wrong { path: path.to_owned(), text, errors })
    }

    /// Checks the content of a file.
    pub(super) fn parse(
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
        command: &Command,
    ) -> Result<Self, Vec<FileError>> {
        let mut root = Node::read(text, environment).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        let own = root.take(OWN).map(|(_, section)| options::read(&section, command));
        let own = own.unwrap_or(Ok(Vec::new())).unwrap_or_else(|mistakes| {
            errors.extend(mistakes);
            Vec::new()
        });
        let translation = translation_of(&root).unwrap_or_else(|mistake| {
            errors.push(mistake);
            None
        });
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.position);
            return Err(errors);
        }
        // What the agent's own section says is meant more precisely.
        let mut options = own;
        let (mut warnings, mut translation) = (Vec::new(), translation);
        if let Some(translation) = &mut translation {
            warnings.append(&mut translation.warnings);
            for option in translation.options.drain(..) {
                if options.iter().all(|own| own.name != option.name) {
                    options.push(option);
                }
            }
        }
        Ok(Self { path: PathBuf::new(), translation, options, warnings })
    }

    /// Makes what the file says the defaults of the command line.
    pub(super) fn with_defaults(&self, command: Command) -> Command {
        options::with_defaults(command, &self.options)
    }

    /// Where the file sets an option.
    pub(super) fn option(&self, name: &str) -> Option<Position> {
        self.options.iter().find(|option| option.name == name).map(|option| option.position)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is left out of account.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether the file stands for the variables `OTEL_…`, which are ignored then.
    pub(super) fn replaces_variables(&self) -> bool {
        self.translation.is_some()
    }

    /// How many destinations of spans the OpenTelemetry part has.
    pub(super) fn destinations(&self) -> usize {
        self.translation.as_ref().map_or(0, |translation| translation.destinations.len())
    }

    /// What a variable would be, for one of the destinations or apart from them.
    pub(super) fn variable(
        &self,
        name: &str,
        destination: Option<usize>,
    ) -> Option<&(String, Position)> {
        let translation = self.translation.as_ref()?;
        let own = destination.and_then(|index| translation.destinations.get(index));
        own.and_then(|given: &Given| given.get(name)).or_else(|| translation.shared.get(name))
    }
}

/// The OpenTelemetry part, if there is any.
fn translation_of(root: &Node) -> Result<Option<Translation>, FileError> {
    let document::Value::Map(entries) = &root.value else {
        return if root.kind() == "nothing" {
            Ok(None)
        } else {
            Err(FileError::at(
                root.position,
                format!("this is {}; expected a mapping", root.kind()),
            ))
        };
    };
    if entries.is_empty() {
        return Ok(None);
    }
    let file: Declarative = decode::decode(root).map_err(|error| own_key_too(error, entries))?;
    match file.file_format.as_deref() {
        Some(version) if version == "1" || version.starts_with("1.") => {}
        Some(version) => {
            let place = root.find(FORMAT).map_or(root.position, |node| node.position);
            let message = format!("format {version} is not known; the agent reads 1.0 and 1.1");
            return Err(FileError::at(place, message));
        }
        None => {
            let message = "`file_format` is missing; write file_format: \"1.0\"";
            return Err(FileError::at(root.position, message));
        }
    }
    translation::translate(&file, root).map(Some)
}

/// A key of the top that is unknown may be meant to be the agent's own section.
fn own_key_too(error: FileError, entries: &[(document::Key, Node)]) -> FileError {
    let top = entries.iter().find(|(key, _)| Some(key.position) == error.position);
    match top {
        Some((key, _)) if strsim::levenshtein(&key.text, OWN) <= 2 => {
            FileError { message: unknown("key", &key.text, [OWN].into_iter()), ..error }
        }
        _ => error,
    }
}

/// The JSON schema of OpenTelemetry's part.
pub(super) fn declarative_schema() -> schemars::Schema {
    schemars::schema_for!(Declarative)
}

#[cfg(test)]
mod tests;
