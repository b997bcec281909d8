//! The few environment variables that name a service.
//!
//! An environment is full of secrets: only the variables below are looked at, and the block they
//! stand in is dropped at once.

use std::str;

/// What the environment of a process says about the service it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServiceVariables {
    /// `OTEL_SERVICE_NAME`
    pub(super) service_name: Option<String>,
    /// `OTEL_RESOURCE_ATTRIBUTES`, undecoded.
    pub(super) resource_attributes: Option<String>,
    /// `HOSTNAME`; names the container or the pod for a process inside one.
    pub(super) hostname: Option<String>,
    /// Whether it sets up an OpenTelemetry SDK that exports spans.
    pub(super) sets_up_sdk: bool,
}

impl ServiceVariables {
    /// From a NUL-separated block. A last variable without its NUL was cut off and is ignored;
    /// empty values count as absent, as the OpenTelemetry specification has it.
    pub(super) fn parse(block: &[u8]) -> Self {
        let mut found = Self::default();
        let mut disabled = false;
        let whole = block.iter().rposition(|&byte| byte == 0).unwrap_or(0);
        for variable in block[..whole].split(|&byte| byte == 0) {
            let Some(equals) = variable.iter().position(|&byte| byte == b'=') else { continue };
            let (name, value) = (&variable[..equals], &variable[equals + 1..]);
            match name {
                b"OTEL_SDK_DISABLED" => disabled = value.eq_ignore_ascii_case(b"true"),
                b"OTEL_TRACES_EXPORTER" => disabled |= value.eq_ignore_ascii_case(b"none"),
                b"OTEL_EXPORTER_OTLP_ENDPOINT" | b"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" => {
                    found.sets_up_sdk |= !value.is_empty();
                }
                // How programs are instrumented without their knowledge.
                b"PYTHONPATH" | b"NODE_OPTIONS" | b"JAVA_TOOL_OPTIONS" => {
                    found.sets_up_sdk |= str::from_utf8(value).is_ok_and(loads_sdk);
                }
                _ => {}
            }
            let slot = match name {
                b"OTEL_SERVICE_NAME" => &mut found.service_name,
                b"OTEL_RESOURCE_ATTRIBUTES" => &mut found.resource_attributes,
                b"HOSTNAME" => &mut found.hostname,
                _ => continue,
            };
            let value = str::from_utf8(value).unwrap_or_default().trim();
            // getenv(3) finds the first of several.
            if slot.is_none() && !value.is_empty() {
                *slot = Some(value.to_owned());
            }
        }
        found.sets_up_sdk &= !disabled;
        found
    }

    /// Fills what is absent from a second look at the same environment.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            service_name: self.service_name.or(other.service_name),
            resource_attributes: self.resource_attributes.or(other.resource_attributes),
            hostname: self.hostname.or(other.hostname),
            sets_up_sdk: self.sets_up_sdk || other.sets_up_sdk,
        }
    }
}

fn loads_sdk(options: &str) -> bool {
    options.contains("opentelemetry")
}

/// Why `OTEL_RESOURCE_ATTRIBUTES` was discarded as a whole. Does not quote the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// A member is not `key=value`.
    #[error("member {0} of OTEL_RESOURCE_ATTRIBUTES is not `key=value`; the variable is ignored")]
    NotAPair(usize),
    /// A `%` escape is broken, or does not give UTF-8.
    #[error(
        "member {0} of OTEL_RESOURCE_ATTRIBUTES is not valid percent-encoded UTF-8; the variable \
         is ignored"
    )]
    Encoding(usize),
}

/// Decodes `key=value,key=value`; members are counted from 1. Of equal keys the last one counts.
pub fn resource_attributes(text: &str) -> Result<Vec<(String, String)>, AttributesError> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    for (index, member) in text.split(',').enumerate() {
        let number = index + 1;
        if member.trim().is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=').ok_or(AttributesError::NotAPair(number))?;
        let decode = |text: &str| percent_decode(text).ok_or(AttributesError::Encoding(number));
        let (key, value) = (decode(key.trim())?, decode(value.trim())?);
        if key.is_empty() {
            return Err(AttributesError::NotAPair(number));
        }
        attributes.retain(|(known, _)| *known != key);
        attributes.push((key, value));
    }
    Ok(attributes)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let (escape, after) = tail.split_at_checked(2)?;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            bytes.push((digit(escape[0])? * 16 + digit(escape[1])?) as u8);
            rest = after;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_named_variables_are_taken() {
        let block = b"PATH=/bin\0OTEL_SERVICE_NAME=shop\0SECRET=x\0HOSTNAME=web\0EMPTY=\0";
        let found = ServiceVariables::parse(block);
        assert_eq!(found.service_name.as_deref(), Some("shop"));
        assert_eq!(found.hostname.as_deref(), Some("web"));
        assert_eq!(found.resource_attributes, None);
    }

    #[test]
    fn an_environment_that_sets_up_an_sdk() {
        let sets_up = |block: &[u8]| ServiceVariables::parse(block).sets_up_sdk;
        let path = b"PYTHONPATH=/v/site-packages/opentelemetry/instrumentation/auto:/srv\0";
        assert!(sets_up(path));
        assert!(sets_up(b"NODE_OPTIONS=--require @opentelemetry/auto-instrumentations-node\0"));
        assert!(sets_up(b"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318\0"));
        assert!(!sets_up(b"OTEL_SERVICE_NAME=shop\0OTEL_EXPORTER_OTLP_ENDPOINT=\0"));
        assert!(!sets_up(b"PYTHONPATH=/srv\0NODE_OPTIONS=--inspect\0"));
        let none = b"OTEL_TRACES_EXPORTER=none\0";
        assert!(!sets_up(&[path.as_slice(), none].concat()));
        assert!(!sets_up(&[b"OTEL_SDK_DISABLED=true\0".as_slice(), path].concat()));
    }

    #[test]
    fn a_cut_or_empty_variable_is_absent() {
        assert_eq!(ServiceVariables::parse(b"OTEL_SERVICE_NAME=sh"), ServiceVariables::default());
        let cut = ServiceVariables::parse(b"A=1\0OTEL_SERVICE_NAME=sh");
        assert_eq!(cut.service_name, None);
        let second = ServiceVariables::parse(b"OTEL_SERVICE_NAME=shop\0");
        assert_eq!(cut.or(second).service_name.as_deref(), Some("shop"));
        let empty = ServiceVariables::parse(b"OTEL_SERVICE_NAME=\0");
        assert_eq!(empty.service_name, None);
    }

    #[test]
    fn attributes_are_percent_decoded() {
        let attributes =
            resource_attributes("service.name=my%20shop, team=a%2Cb ,x=1=2,x=3,,").expect("valid");
        let expected = [("service.name", "my shop"), ("team", "a,b"), ("x", "3")];
        assert_eq!(attributes, expected.map(|(key, value)| (key.into(), value.into())));
    }

    #[test]
    fn any_error_discards_the_whole_value() {
        for (text, error) in [
            ("a=1,b", AttributesError::NotAPair(2)),
            ("a=1,=2", AttributesError::NotAPair(2)),
            ("a=1,b=%zz", AttributesError::Encoding(2)),
            ("a=%4", AttributesError::Encoding(1)),
            ("a=%+1", AttributesError::Encoding(1)),
            ("a=%ff", AttributesError::Encoding(1)),
        ] {
            assert_eq!(resource_attributes(text), Err(error), "{text}");
        }
        assert!(!AttributesError::NotAPair(2).to_string().contains("a=1"));
    }

    proptest! {
        #[test]
        fn encoded_values_come_back(value in "\\PC{0,40}") {
            let mut encoded = String::new();
            for byte in value.bytes() {
                write!(encoded, "%{byte:02X}").expect("memory is writable");
            }
            let attributes = resource_attributes(&format!("key={encoded}")).expect("valid");
            prop_assert_eq!(attributes, vec![("key".to_owned(), value)]);
        }

        #[test]
        fn no_block_is_too_strange(block in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ServiceVariables::parse(&block);
        }
    }
}
