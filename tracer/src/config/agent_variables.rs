//! Variables `OTEL_…` about the agent itself, by the parsing rules of the specification.

use super::Variables;
use crate::proxy::{Formats, NoFormat};
use crate::target::resource_attributes;

const DISABLED: &str = "OTEL_SDK_DISABLED";
const LOG_LEVEL: &str = "OTEL_LOG_LEVEL";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const PROPAGATORS: &str = "OTEL_PROPAGATORS";
const STABILITY: &str = "OTEL_SEMCONV_STABILITY_OPT_IN";
const METHODS: &str = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS";

/// What the variables say about the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentVariables {
    /// Trace nothing.
    pub disabled: bool,
    /// As a filter of logs.
    pub log_level: Option<&'static str>,
    /// HTTP methods instead of the built-in list.
    pub known_methods: Option<Vec<String>>,
    /// What the agent's own metrics say about where they come from, `service.name` included.
    pub resource: Vec<(String, String)>,
}

impl AgentVariables {
    /// Reads them; the second part are warnings for the operator.
    pub fn read(variables: &Variables) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let text = |name: &str| {
            let value = variables.get(name).map(|value| value.trim().to_owned());
            value.filter(|value| !value.is_empty())
        };
        let mut warn = |name: &str, problem: String| warnings.push(format!("{name}: {problem}"));

        let disabled = text(DISABLED).is_some_and(|value| {
            let disabled = value.eq_ignore_ascii_case("true");
            if !disabled && !value.eq_ignore_ascii_case("false") {
                warn(DISABLED, format!("`{value}` is neither true nor false; taken as false"));
            }
            disabled
        });
        let log_level = text(LOG_LEVEL).and_then(|value| {
            let level = log_level(&value);
            if level.is_none() {
                let known = "trace, debug, info, warn, error or none";
                warn(LOG_LEVEL, format!("`{value}` is unknown and ignored; use {known}"));
            }
            level
        });
        let known_methods = text(METHODS).map(|list| {
            list.split(',')
                .map(|method| method.trim().to_owned())
                .filter(|it| !it.is_empty())
                .collect()
        });
        let mut resource = text(ATTRIBUTES).map_or(Vec::new(), |list| {
            resource_attributes(&list).unwrap_or_else(|error| {
                warn(ATTRIBUTES, error.to_string());
                Vec::new()
            })
        });
        if let Some(name) = text("OTEL_SERVICE_NAME") {
            resource.retain(|(key, _)| key != "service.name");
            resource.push(("service.name".to_owned(), name));
        }
        match Formats::parse(&text(PROPAGATORS).unwrap_or_default()) {
            Ok(formats) => formats.unknown.iter().for_each(|format| {
                let problem =
                    format!("`{format}` is not supported; use tracecontext, b3 and b3multi");
                warn(PROPAGATORS, problem);
            }),
            Err(NoFormat) => warn(
                PROPAGATORS,
                "context of others is read nevertheless; nothing is written without --propagate"
                    .to_owned(),
            ),
        }
        if text(STABILITY).is_some_and(|list| list.split(',').any(|it| it.trim().ends_with("/dup")))
        {
            warn(STABILITY, "only the stable conventions are written, nothing twice".to_owned());
        }
        (Self { disabled, log_level, known_methods, resource }, warnings)
    }
}

fn log_level(value: &str) -> Option<&'static str> {
    Some(match value.to_ascii_lowercase().as_str() {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warn" | "warning" => "warn",
        "error" | "fatal" => "error",
        "none" | "off" => "off",
        _ => return None,
    })
}
