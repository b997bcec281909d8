//! The variables `OTEL_…` as one lookup, whether they stand in the environment or a file says what
//! they would.
//!
//! As the specification has it, a declarative file stands for all of them: what the environment says
//! is ignored then, but for what the file itself asks for by `${…}`. Other variables always come from
//! the environment.

use std::fmt;
use std::sync::Arc;

use super::file::{ConfigFile, Position};

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The command line.
    Flag(String),
    /// The environment.
    Variable(String),
    /// A file.
    File(std::path::PathBuf, Position),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path, position) => write!(f, "{}:{position}", path.display()),
        }
    }
}

/// Answers for the environment.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The lookup. Cheap to clone.
#[derive(Clone)]
pub struct Variables {
    environment: Environment,
    file: Option<Arc<ConfigFile>>,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Variables {
    /// The environment, behind a file if there is one.
    pub fn new(environment: Environment, file: Option<Arc<ConfigFile>>) -> Self {
        Self { environment, file }
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<String> {
        self.look(name, None).map(|(value, _)| value)
    }

    /// As [`Self::get`], for one of [`Self::destinations`].
    pub fn of_destination(&self, destination: usize, name: &str) -> Option<String> {
        self.look(name, Some(destination)).map(|(value, _)| value)
    }

    /// Where a variable's value comes from, for a destination or apart from them.
    pub fn source(&self, destination: Option<usize>, name: &str) -> Option<Source> {
        self.look(name, destination).map(|(_, source)| source)
    }

    /// Destinations of spans that have variables of their own: none without a file that names them.
    pub fn destinations(&self) -> usize {
        self.file.as_ref().map_or(0, |file| file.destinations())
    }

    /// Variables of the environment that are ignored because a file stands for them.
    pub fn ignored<'a>(&self, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        if !self.replaced() {
            return Vec::new();
        }
        known.filter(|name| (self.environment)(name).is_some_and(|it| !it.is_empty())).collect()
    }

    fn replaced(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.replaces_variables())
    }

    fn look(&self, name: &str, destination: Option<usize>) -> Option<(String, Source)> {
        match &self.file {
            Some(file) if self.replaced() && name.starts_with("OTEL_") => {
                let (value, position) = file.variable(name, destination)?;
                Some((value.clone(), Source::File(file.path().to_owned(), *position)))
            }
            _ => Some(((self.environment)(name)?, Source::Variable(name.to_owned()))),
        }
    }
}
