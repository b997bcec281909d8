//! The `--exporter` list.

use std::fmt;
use std::path::PathBuf;

/// One destination of spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExporterChoice {
    /// An OTLP receiver.
    Otlp,
    /// Waterfalls on standard output.
    Console,
    /// OTLP JSON lines.
    File(FileTarget),
}

/// Where OTLP JSON lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileTarget {
    /// Standard output.
    Stdout,
    /// Appended to a file, which is created if need be.
    Path(PathBuf),
}

/// Why a list of exporters was not understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChoiceError {
    /// A name is not one of ours.
    #[error(
        "unknown exporter `{0}`; use otlp, console, file:PATH (`file:-` for standard output) or none"
    )]
    Unknown(String),
    /// `none` stands beside another exporter.
    #[error("exporter `none` excludes all others; remove it or them")]
    NoneAmongOthers,
}

impl ExporterChoice {
    /// Reads a comma-separated list, in order and without repetitions; empty for `none`.
    ///
    /// Beside our own names it takes those of `OTEL_TRACES_EXPORTER`, such as `otlp/stdout`.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, ChoiceError> {
        let mut choices = Vec::new();
        let mut none = false;
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name.eq_ignore_ascii_case("none") {
                none = true;
                continue;
            }
            let choice = Self::parse(name)?;
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
        if none && !choices.is_empty() {
            return Err(ChoiceError::NoneAmongOthers);
        }
        Ok(choices)
    }

    fn parse(name: &str) -> Result<Self, ChoiceError> {
        match name.to_ascii_lowercase().as_str() {
            "otlp" => return Ok(Self::Otlp),
            "console" => return Ok(Self::Console),
            "otlp/stdout" | "file:-" => return Ok(Self::File(FileTarget::Stdout)),
            _ => {}
        }
        match name.split_once(':') {
            Some((kind, path)) if kind.eq_ignore_ascii_case("file") && !path.is_empty() => {
                Ok(Self::File(FileTarget::Path(path.into())))
            }
            _ => Err(ChoiceError::Unknown(name.to_owned())),
        }
    }
}

impl fmt::Display for ExporterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Otlp => f.write_str("otlp"),
            Self::Console => f.write_str("console"),
            Self::File(FileTarget::Stdout) => f.write_str("file:-"),
            Self::File(FileTarget::Path(path)) => write!(f, "file:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_become_destinations() {
        let file = |path: &str| ExporterChoice::File(FileTarget::Path(path.into()));
        let stdout = ExporterChoice::File(FileTarget::Stdout);
        let rows = [
            ("otlp", vec![ExporterChoice::Otlp]),
            ("OTLP, Console", vec![ExporterChoice::Otlp, ExporterChoice::Console]),
            ("file:a/B:c.jsonl", vec![file("a/B:c.jsonl")]),
            ("file:-,otlp/stdout", vec![stdout]),
            ("console,console,", vec![ExporterChoice::Console]),
            ("none", vec![]),
            ("", vec![]),
        ];
        for (list, expected) in rows {
            assert_eq!(ExporterChoice::parse_list(list), Ok(expected), "{list}");
        }
    }

    #[test]
    fn mistakes_are_refused() {
        for name in ["zipkin", "file:", "file", "otlp:x"] {
            let error = ExporterChoice::parse_list(name);
            assert_eq!(error, Err(ChoiceError::Unknown(name.to_owned())));
        }
        assert_eq!(ExporterChoice::parse_list("none,otlp"), Err(ChoiceError::NoneAmongOthers));
    }

    #[test]
    fn a_choice_prints_as_it_is_written() {
        for name in ["otlp", "console", "file:-", "file:/tmp/x"] {
            assert_eq!(ExporterChoice::parse_list(name).unwrap()[0].to_string(), name);
        }
    }
}
