//! Options on what spans must not say.

use clap::Args;

use crate::redact::{AttributePattern, Limits, Options, Rule};
use crate::trace::RoutePattern;

/// What spans must not say.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Redaction")]
pub struct RedactOptions {
    /// What to do to attributes, by name: ATTRIBUTE=ACTION with a glob and one of delete, hash,
    /// mask, mask:REGEX and keep, like `user_agent.*=delete`; may be repeated, the first that
    /// matches counts. Headers that are known to be secrets are masked without; docs/redaction.md
    #[arg(long, env = "TRACER_REDACT", value_delimiter = '\n', value_name = "RULE")]
    pub redact: Vec<Rule>,
    /// Attributes to keep; if any is named, all others are left out. Globs; may be repeated
    #[arg(
        long = "allow-attribute",
        env = "TRACER_ALLOW_ATTRIBUTES",
        value_delimiter = ',',
        value_name = "GLOB"
    )]
    pub allow_attributes: Vec<AttributePattern>,
    /// Path like '/reset/{token}' of which REDACTED is shown instead of what stands at the braces;
    /// may be repeated
    #[arg(
        long = "redact-path",
        env = "TRACER_REDACT_PATHS",
        value_delimiter = ' ',
        value_name = "PATTERN"
    )]
    pub redact_paths: Vec<RoutePattern>,
    /// Query parameter whose value is replaced by REDACTED; may be repeated. Replaces the built-in
    /// list of signatures, tokens and passwords; '' alone redacts nothing
    #[arg(
        long = "redact-query-key",
        env = "TRACER_REDACT_QUERY_KEYS",
        value_delimiter = ',',
        value_name = "KEY"
    )]
    pub redact_query_keys: Vec<String>,
    /// Secret that digests of `hash` are made with: without it, who can guess a value can check it
    #[arg(long, env = "TRACER_REDACT_HASH_KEY", hide_env_values = true, value_name = "SECRET")]
    pub redact_hash_key: Option<String>,
}

impl RedactOptions {
    /// What is left out, and warnings about the environment.
    pub fn options(&self, environment: impl Fn(&str) -> Option<String>) -> (Vec<String>, Options) {
        let (warnings, limits) = Limits::from_environment(environment);
        let options = Options {
            query_keys: self.query_keys(),
            paths: self.redact_paths.clone(),
            rules: self.redact.clone(),
            allowed: self.allow_attributes.clone(),
            hash_key: self.redact_hash_key.clone(),
            limits,
        };
        (warnings, options)
    }

    /// The list that replaces the built-in one, if one was given.
    pub fn query_keys(&self) -> Option<Vec<String>> {
        let given = !self.redact_query_keys.is_empty();
        let keys = self.redact_query_keys.iter().filter(|key| !key.is_empty());
        given.then(|| keys.cloned().collect())
    }
}
