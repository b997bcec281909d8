//! Environment variables by the parsing rules of the OpenTelemetry specification: empty is unset,
//! names of values in any case, bad values ignored with a warning, durations in milliseconds.

use std::time::Duration;

use super::Signal;

/// Reads variables and collects warnings about them.
pub(super) struct Environment<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    warnings: Vec<String>,
}

impl<'a> Environment<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, warnings: Vec::new() }
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    pub(super) fn warn(&mut self, variable: &str, problem: &str) {
        self.warnings.push(format!("{variable}: {problem}"));
    }

    pub(super) fn text(&self, variable: &str) -> Option<String> {
        let value = (self.lookup)(variable)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The signal's own variable if it is set, else the general one.
    pub(super) fn otlp(&self, signal: Signal, name: &str) -> Option<(String, String)> {
        [signal.variable(name), format!("OTEL_EXPORTER_OTLP_{name}")].into_iter().find_map(
            |variable| {
                let value = self.text(&variable)?;
                Some((variable, value))
            },
        )
    }

    pub(super) fn count(&mut self, variable: &str) -> Option<usize> {
        let value = self.text(variable)?;
        match value.parse::<usize>() {
            Ok(count) if count > 0 => Some(count),
            _ => {
                self.warn(variable, &format!("`{value}` is not a positive number; ignored"));
                None
            }
        }
    }

    pub(super) fn millis(&mut self, variable: &str) -> Option<Duration> {
        let value = self.text(variable)?;
        if let Ok(millis) = value.parse() {
            return Some(Duration::from_millis(millis));
        }
        self.warn(variable, &format!("`{value}` is not a number of milliseconds; ignored"));
        None
    }

    /// `true` in any case is true, everything else false.
    pub(super) fn truth(&mut self, variable: &str) -> Option<bool> {
        let value = self.text(variable)?;
        let truth = value.eq_ignore_ascii_case("true");
        if !truth && !value.eq_ignore_ascii_case("false") {
            self.warn(variable, &format!("`{value}` is neither true nor false; taken as false"));
        }
        Some(truth)
    }
}
