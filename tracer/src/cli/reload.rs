//! SIGHUP: the configuration is read again. What can change while the agent runs does, all at once;
//! what cannot is said in one line. A configuration that makes no sense changes nothing.

use std::sync::mpsc;

use anyhow::{Result, bail};
use tracer::config::{
    AgentVariables, Command, Configuration, ConfigurationError, Environment, OptionValue,
};
use tracer::redact::Limits;
use tracer::trace::SpanOptions;

use super::effective;
use super::logging::{self, LogHandle};
use super::parts;

/// Options that take effect at once.
const AT_ONCE: [&str; 11] = [
    "--route",
    "--route-heuristic",
    "--capture-request-header",
    "--capture-response-header",
    "--max-routes",
    "--redact",
    "--allow-attribute",
    "--redact-path",
    "--redact-query-key",
    "--redact-hash-key",
    "--log",
];
/// Variables that do, as do the limits on spans.
const VARIABLES_AT_ONCE: [&str; 2] = ["OTEL_LOG_LEVEL", "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"];

/// Names and values of settings.
type Values = Vec<(String, String)>;

/// Reads the configuration again, as often as asked to.
pub(crate) struct Reloader {
    environment: Environment,
    logs: LogHandle,
    changes: mpsc::Sender<SpanOptions>,
    /// What is in force.
    current: Values,
    /// What the operator knows of the configuration that was read last.
    warnings: Vec<String>,
}

impl Reloader {
    pub(crate) fn new(
        configuration: &Configuration,
        environment: Environment,
        logs: LogHandle,
        changes: mpsc::Sender<SpanOptions>,
    ) -> Result<Self> {
        let (current, warnings) = values(configuration)?;
        Ok(Self { environment, logs, changes, current, warnings })
    }

    /// Never fails: what went wrong is logged, and everything stays as it is.
    pub(crate) fn reload(&mut self) {
        match self.try_reload() {
            Ok(Change { done, left }) if done.is_empty() && left.is_empty() => {
                eprintln!("tracer: configuration read again; nothing has changed");
            }
            Ok(Change { done, left }) => {
                let mut told = Vec::new();
                if !done.is_empty() {
                    told.push(format!("in force now: {}", done.join(", ")));
                }
                if !left.is_empty() {
                    told.push(format!("only after a restart: {}", left.join(", ")));
                }
                eprintln!("tracer: configuration read again; {}", told.join("; "));
            }
            Err(error) => {
                eprintln!(
                    "tracer: the configuration stays as it is, as the new one is wrong: {error:#}"
                );
            }
        }
    }

    fn try_reload(&mut self) -> Result<Change> {
        let configuration = match Configuration::load(std::env::args_os(), self.environment.clone())
        {
            Ok(configuration) => configuration,
            Err(ConfigurationError::File(error)) => bail!("{error}"),
            Err(ConfigurationError::Usage(error)) => bail!("{error}"),
        };
        let Command::Run(options) = &configuration.cli.command else {
            bail!("this is not `tracer run`");
        };
        let (new, warnings) = values(&configuration)?;
        let (agent, _) = AgentVariables::read(&configuration.variables);
        let variables = &configuration.variables;
        let (_, spans) =
            parts::span_options(&options.span, &options.redact, agent.known_methods, variables)?;
        for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
            eprintln!("tracer: {warning}");
        }
        self.warnings = warnings;
        let change = Change::between(&self.current, &new);
        // From here on nothing can fail but an agent that is about to end.
        if !change.done.is_empty() {
            let _ = self.logs.reload(logging::filter(&options.log, agent.log_level));
            let _ = self.changes.send(spans);
        }
        // What needs a restart is told again as long as it is not done.
        for (name, value) in &mut self.current {
            if takes_effect_at_once(name)
                && let Some((_, new)) = new.iter().find(|(candidate, _)| candidate == name)
            {
                value.clone_from(new);
            }
        }
        Ok(change)
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    done: Vec<String>,
    left: Vec<String>,
}

impl Change {
    fn between(old: &[(String, String)], new: &[(String, String)]) -> Self {
        let mut change = Self::default();
        let names = old.iter().chain(new).map(|(name, _)| name);
        let value = |list: &[(String, String)], name: &String| {
            list.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        for name in names {
            if value(old, name) == value(new, name) {
                continue;
            }
            let list = if takes_effect_at_once(name) { &mut change.done } else { &mut change.left };
            if !list.contains(name) {
                list.push(name.clone());
            }
        }
        change
    }
}

fn takes_effect_at_once(name: &str) -> bool {
    AT_ONCE.contains(&name)
        || VARIABLES_AT_ONCE.contains(&name)
        || Limits::VARIABLES.iter().any(|(limit, _)| *limit == name)
}

/// Everything in force, with secrets, which only get compared; and warnings for the operator.
fn values(configuration: &Configuration) -> Result<(Values, Vec<String>)> {
    let Command::Run(run) = &configuration.cli.command else { return Ok(Default::default()) };
    let (settings, warnings) = effective::resolve(configuration, run)?;
    let mut values: Values =
        settings.into_iter().map(|setting| (setting.name, setting.value)).collect();
    for OptionValue { name, values: secret, .. } in
        configuration.options.iter().filter(|option| option.secret)
    {
        values.retain(|(known, _)| *known != format!("--{name}"));
        values.push((format!("--{name}"), secret.join(",")));
    }
    Ok((values, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_apart_by_when_it_counts() {
        let list = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let old = list(&[("--route", "/a"), ("--port", "80"), ("--spool", "/x")]);
        let new =
            list(&[("--route", "/b"), ("--port", "81"), ("--spool", "/x"), ("--log", "info")]);
        let change = Change::between(&old, &new);
        assert_eq!(
            (change.done, change.left),
            (vec!["--route".to_owned(), "--log".to_owned()], vec!["--port".to_owned()])
        );
        assert_eq!(Change::between(&old, &old), Change::default());
    }
}
