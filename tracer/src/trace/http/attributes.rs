//! The list of attributes as it comes into being.

use std::borrow::Cow;

use smol_str::SmolStr;

use crate::exchange::{End, Field};
use crate::redact::REDACTED;
use crate::trace::Value;

/// A header whose values go on spans.
#[derive(Debug)]
pub(super) struct CapturedHeader {
    /// In lower case.
    pub(super) name: String,
    pub(super) attribute: String,
    /// Its values are secrets.
    pub(super) masked: bool,
}

/// The attribute list under construction; each name is added at most once.
pub(super) struct Attributes(pub(super) Vec<(Cow<'static, str>, Value)>);

impl Attributes {
    pub(super) fn text(&mut self, name: &'static str, value: impl Into<SmolStr>) {
        self.0.push((Cow::Borrowed(name), Value::Text(value.into())));
    }

    /// A text that many spans share.
    pub(super) fn fixed(&mut self, name: &'static str, value: &'static str) {
        self.text(name, SmolStr::new_static(value));
    }

    pub(super) fn int(&mut self, name: &'static str, value: i64) {
        self.0.push((Cow::Borrowed(name), Value::Int(value)));
    }

    pub(super) fn double(&mut self, name: &'static str, value: f64) {
        self.0.push((Cow::Borrowed(name), Value::Double(value)));
    }

    pub(super) fn address(&mut self, name: &'static str, end: &End) {
        if let Some(address) = end.address() {
            self.text(name, address.clone());
        }
    }

    pub(super) fn port(&mut self, name: &'static str, port: Option<u16>) {
        if let Some(port) = port {
            self.int(name, i64::from(port));
        }
    }

    pub(super) fn headers(&mut self, wanted: &[CapturedHeader], headers: &[Field]) {
        for wanted in wanted {
            let values: Vec<String> = headers
                .iter()
                .filter(|(name, _)| *name == wanted.name)
                .map(
                    |(_, value)| {
                        if wanted.masked { REDACTED.to_owned() } else { value.to_string() }
                    },
                )
                .collect();
            if !values.is_empty() {
                self.0.push((Cow::Owned(wanted.attribute.clone()), Value::TextList(values)));
            }
        }
    }
}
