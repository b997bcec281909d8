//! What spans must not say: secrets and personal data, and more than anybody wants to store.
//!
//! Secrets in URLs and headers are left out by default; everything else by rules of the user.
//! Applied once, where a span is made, so nothing behind it ever sees what was left out. Must not
//! know exchanges, where attributes come from, or export formats.

mod cardinality;
mod limits;
mod rule;
mod url;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use ring::hmac;
use rustc_hash::FxHashMap;
use serde::Serialize;
use smol_str::SmolStr;

pub use cardinality::{Cardinality, DEFAULT_LIMIT};
pub use limits::Limits;
pub use rule::{Action, AttributePattern, Rule, RuleError};
pub use url::{COMMON_SECRETS, UrlRedaction, split_credentials};

use crate::trace::{Resource, ResourceId, RoutePattern, Span, Value};

/// Stands for what is not shown.
pub const REDACTED: &str = "REDACTED";
/// Headers whose values are secrets, in lower case: shown as [`REDACTED`] unless a rule is for
/// exactly one of them.
pub const SECRET_HEADERS: [&str; 14] = [
    "api-key",
    "authentication",
    "authorization",
    "cookie",
    "proxy-authenticate",
    "proxy-authorization",
    "set-cookie",
    "www-authenticate",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-vault-token",
    "x-xsrf-token",
];
/// What a list of allowed attributes need not name: without it a resource or a span means nothing.
const ALWAYS_ALLOWED: [&str; 1] = ["service.name"];
/// Bytes of a digest that are shown, which are enough to tell values apart.
const DIGEST: usize = 16;
/// Names and resources whose treatment is remembered; beyond, it is found out again.
const MAX_REMEMBERED: usize = 16_384;

/// What is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Query parameters to hide instead of those of the built-in lists.
    pub query_keys: Option<Vec<String>>,
    /// Paths of which what stands at the wildcards is hidden.
    pub paths: Vec<RoutePattern>,
    /// What is done to attributes of spans and resources; of several that match, the first that is
    /// not [`Action::MaskMatches`] ends the list.
    pub rules: Vec<Rule>,
    /// If there are any, all other attributes are left out.
    pub allowed: Vec<AttributePattern>,
    /// Without it, whoever can guess a value can tell whether it is behind a digest.
    pub hash_key: Option<String>,
    /// Limits of each span.
    pub limits: Limits,
}

/// What was left out, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Attributes deleted by a rule, or because they are not allowed.
    pub deleted: u64,
    /// Values replaced by digests.
    pub hashed: u64,
    /// Values masked as a whole or in part.
    pub masked: u64,
    /// Values cut at the limit of their length.
    pub shortened: u64,
    /// Attributes beyond the limit of their number.
    pub dropped_attributes: u64,
    /// Links beyond the limit of their number.
    pub dropped_links: u64,
}

/// Applies [`Options`].
#[derive(Debug)]
pub struct Redactor {
    url: UrlRedaction,
    rules: Vec<Rule>,
    allowed: Vec<AttributePattern>,
    key: hmac::Key,
    limits: Limits,
    treatments: FxHashMap<SmolStr, Treatment>,
    resources: FxHashMap<ResourceId, Arc<Resource>>,
    counts: Counts,
}

/// What is done to attributes of one name.
#[derive(Clone, Debug, Default, PartialEq)]
struct Treatment {
    /// Rules whose matches are masked first, by number.
    matches: Vec<usize>,
    whole: Whole,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Whole {
    #[default]
    Keep,
    Delete,
    Hash,
    Mask,
}

impl Redactor {
    /// Compiles what is left out.
    pub fn new(options: Options) -> Self {
        let key = options.hash_key.unwrap_or_default();
        Self {
            url: UrlRedaction::new(options.query_keys, options.paths),
            rules: options.rules,
            allowed: options.allowed,
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()),
            limits: options.limits,
            treatments: FxHashMap::default(),
            resources: FxHashMap::default(),
            counts: Counts::default(),
        }
    }

    /// What of URLs is not shown.
    pub fn url(&self) -> &UrlRedaction {
        &self.url
    }

    /// Counts from where another one ended.
    pub fn go_on_from(&mut self, before: &Self) {
        self.counts = before.counts;
    }

    /// What was left out so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the values of a captured header are to be masked, as it is a secret and no rule is
    /// for exactly this attribute: one for many names must not bring to light what it did not mean.
    pub fn masks_header(&self, header: &str, attribute: &str) -> bool {
        SECRET_HEADERS.contains(&header)
            && !self.rules.iter().any(|rule| rule.attributes.is_exactly(attribute))
    }

    /// Leaves out of a span, and of its resource, what is not to be said.
    pub fn redact(&mut self, span: &mut Span) {
        if !self.rules.is_empty() || !self.allowed.is_empty() {
            self.treat_all(&mut span.attributes);
            span.resource = self.resource(&span.resource);
        }
        let cut = self.limits.apply(span);
        self.counts.shortened += cut.values;
        self.counts.dropped_attributes += cut.attributes;
        self.counts.dropped_links += cut.links;
    }

    fn resource(&mut self, resource: &Arc<Resource>) -> Arc<Resource> {
        if let Some(redacted) = self.resources.get(&resource.id) {
            return Arc::clone(redacted);
        }
        let mut redacted = (**resource).clone();
        self.treat_all(&mut redacted.attributes);
        let redacted = Arc::new(redacted);
        if self.resources.len() >= MAX_REMEMBERED {
            self.resources.clear();
        }
        self.resources.insert(resource.id, Arc::clone(&redacted));
        redacted
    }

    fn treat_all(&mut self, attributes: &mut Vec<(Cow<'static, str>, Value)>) {
        attributes.retain_mut(|(name, value)| {
            if !self.treatments.contains_key(&**name) {
                if self.treatments.len() >= MAX_REMEMBERED {
                    self.treatments.clear();
                }
                let treatment = self.treatment(name);
                self.treatments.insert(SmolStr::new(&**name), treatment);
            }
            let Some(treatment) = self.treatments.get(&**name) else { return true };
            let counts = &mut self.counts;
            if treatment.whole == Whole::Delete {
                counts.deleted += 1;
                return false;
            }
            let mut masked = false;
            for rule in &treatment.matches {
                if let Action::MaskMatches(expression) = &self.rules[*rule].action {
                    masked |= replace(value, |text| {
                        let new = expression.replace_all(text, REDACTED);
                        matches!(new, Cow::Owned(_)).then(|| new.into_owned())
                    });
                }
            }
            match treatment.whole {
                Whole::Keep | Whole::Delete => {}
                Whole::Mask => masked |= replace(value, |_| Some(REDACTED.to_owned())),
                Whole::Hash => {
                    let key = &self.key;
                    counts.hashed += u64::from(replace(value, |text| Some(digest(key, text))));
                }
            }
            counts.masked += u64::from(masked);
            true
        });
    }

    fn treatment(&self, name: &str) -> Treatment {
        let allowed = self.allowed.is_empty()
            || ALWAYS_ALLOWED.contains(&name)
            || self.allowed.iter().any(|pattern| pattern.matches(name));
        if !allowed {
            return Treatment { whole: Whole::Delete, ..Treatment::default() };
        }
        let mut matches = Vec::new();
        for (number, rule) in self.rules.iter().enumerate() {
            if !rule.attributes.matches(name) {
                continue;
            }
            let whole = match rule.action {
                Action::MaskMatches(_) => {
                    matches.push(number);
                    continue;
                }
                Action::Keep => Whole::Keep,
                Action::Delete => Whole::Delete,
                Action::Hash => Whole::Hash,
                Action::Mask => Whole::Mask,
            };
            return Treatment { matches, whole };
        }
        Treatment { matches, whole: Whole::Keep }
    }
}

/// Replaces the text of a value, or each of a list, where there is something instead of it. A
/// number that is replaced becomes text.
fn replace(value: &mut Value, mut instead: impl FnMut(&str) -> Option<String>) -> bool {
    let new = match value {
        Value::Text(text) => instead(text),
        Value::Int(number) => instead(&number.to_string()),
        Value::Double(number) => instead(&number.to_string()),
        Value::Bool(truth) => instead(&truth.to_string()),
        Value::TextList(list) => {
            let mut any = false;
            for text in list {
                if let Some(new) = instead(text) {
                    *text = new;
                    any = true;
                }
            }
            return any;
        }
    };
    let Some(new) = new else { return false };
    *value = Value::Text(new.into());
    true
}

fn digest(key: &hmac::Key, text: &str) -> String {
    let tag = hmac::sign(key, text.as_bytes());
    tag.as_ref().iter().take(DIGEST).fold(String::with_capacity(2 * DIGEST), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests;
