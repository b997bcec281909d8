//! Limits on what one span says, by the variables of the specification.
//!
//! Spans of this agent have no events: limits on them are read, so that a wrong one is told, and
//! have nothing to limit.

use smol_str::SmolStr;

use crate::trace::{Span, Value};

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Characters of an attribute's text, and of each text in a list.
    pub value_length: Option<usize>,
    /// Attributes of a span.
    pub attributes: usize,
    /// Links of a span.
    pub links: usize,
    /// Attributes of a link.
    pub link_attributes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const COUNT: usize = 128;
        Self { value_length: None, attributes: COUNT, links: COUNT, link_attributes: COUNT }
    }
}

/// What was cut off one span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) values: u64,
    pub(super) attributes: u64,
    pub(super) links: u64,
}

impl Limits {
    /// The variables, and what each means if it is not there.
    pub const VARIABLES: [(&str, &str); 8] = [
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", ""),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "128"),
        ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", ""),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "128"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", "128"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "128"),
        ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "128"),
        ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "128"),
    ];

    /// The limits of the `OTEL_*_LIMIT` variables; in front, what is wrong with them. What cannot
    /// be used is ignored.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> (Vec<String>, Self) {
        let mut warnings = Vec::new();
        let mut read = |name: &str| {
            let value = variable(name)?;
            let value = value.trim();
            if value.is_empty() {
                return None;
            }
            let number = value.parse().ok();
            if number.is_none() {
                warnings.push(format!("{name}: `{value}` is ignored; write a number, like 128"));
            }
            number
        };
        let default = Self::default();
        let (general_length, general_count) =
            (read("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"), read("OTEL_ATTRIBUTE_COUNT_LIMIT"));
        let length = read("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT").or(general_length);
        let attributes = read("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT").or(general_count);
        let links = read("OTEL_SPAN_LINK_COUNT_LIMIT");
        let link_attributes = read("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT").or(general_count);
        for of_events in ["OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT"] {
            read(of_events);
        }
        let limits = Self {
            value_length: length,
            attributes: attributes.unwrap_or(default.attributes),
            links: links.unwrap_or(default.links),
            link_attributes: link_attributes.unwrap_or(default.link_attributes),
        };
        (warnings, limits)
    }

    /// Cuts a span down. What is left out is counted on it.
    pub(super) fn apply(&self, span: &mut Span) -> Cut {
        let mut cut = Cut::default();
        let surplus = span.attributes.len().saturating_sub(self.attributes);
        if surplus > 0 {
            span.attributes.truncate(self.attributes);
            span.dropped_attributes += surplus as u32;
            cut.attributes += surplus as u64;
        }
        let surplus = span.links.len().saturating_sub(self.links);
        if surplus > 0 {
            span.links.truncate(self.links);
            span.dropped_links += surplus as u32;
            cut.links += surplus as u64;
        }
        for link in &mut span.links {
            let surplus = link.attributes.len().saturating_sub(self.link_attributes);
            link.attributes.truncate(self.link_attributes);
            link.dropped_attributes += surplus as u32;
            cut.attributes += surplus as u64;
        }
        if let Some(length) = self.value_length {
            let own = span.attributes.iter_mut().map(|(_, value)| value);
            let of_links = span.links.iter_mut().flat_map(|link| &mut link.attributes);
            for value in own.chain(of_links.map(|(_, value)| value)) {
                cut.values += u64::from(shorten(value, length));
            }
        }
        cut
    }
}

fn shorten(value: &mut Value, length: usize) -> bool {
    match value {
        Value::Text(text) => match end(text, length) {
            Some(end) => {
                *text = SmolStr::new(&text[..end]);
                true
            }
            None => false,
        },
        Value::TextList(list) => {
            let mut any = false;
            for text in list {
                if let Some(end) = end(text, length) {
                    text.truncate(end);
                    any = true;
                }
            }
            any
        }
        Value::Int(_) | Value::Double(_) | Value::Bool(_) => false,
    }
}

/// The byte at which a text is to be cut to have so many characters, if it has more.
fn end(text: &str, length: usize) -> Option<usize> {
    if text.len() <= length {
        return None;
    }
    text.char_indices().nth(length).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures::span;
    use crate::trace::Link;

    fn environment(variables: &[(&str, &str)]) -> (usize, Limits) {
        let (warnings, limits) = Limits::from_environment(|name| {
            let known = variables.iter().find(|(variable, _)| *variable == name);
            known.map(|(_, value)| (*value).to_owned())
        });
        (warnings.len(), limits)
    }

    #[test]
    fn special_variables_come_before_general_ones() {
        assert_eq!(environment(&[]), (0, Limits::default()));
        let general =
            [("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9"), ("OTEL_ATTRIBUTE_COUNT_LIMIT", " 5 ")];
        let expected = Limits {
            value_length: Some(9),
            attributes: 5,
            link_attributes: 5,
            ..Limits::default()
        };
        assert_eq!(environment(&general), (0, expected));
        let special = [
            ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "8"),
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "4"),
            ("OTEL_SPAN_LINK_COUNT_LIMIT", "3"),
            ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "2"),
            ("OTEL_SPAN_EVENT_COUNT_LIMIT", "1"),
            ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "0"),
        ];
        let all: Vec<_> = general.into_iter().chain(special).collect();
        let expected =
            Limits { value_length: Some(8), attributes: 4, links: 3, link_attributes: 2 };
        assert_eq!(environment(&all), (0, expected));
    }

    #[test]
    fn what_is_no_number_is_told_and_ignored() {
        let all = Limits::VARIABLES.map(|(name, _)| name);
        for bad in ["-1", "many", "1.5"] {
            assert_eq!(environment(&all.map(|name| (name, bad))), (8, Limits::default()), "{bad}");
        }
        assert_eq!(environment(&all.map(|name| (name, " "))), (0, Limits::default()));
    }

    #[test]
    fn a_span_is_cut_down_and_says_so() {
        let text = |text: &str| Value::Text(text.into());
        let attribute = |name: &'static str, value: &Value| (name.into(), value.clone());
        let link = Link {
            attributes: vec![("a", text("länger")), ("b", text("x"))],
            ..Link::to(span(7).trace, span(7).id)
        };
        let mut cut = Span {
            attributes: vec![
                attribute("a", &text("länger")),
                attribute("b", &Value::TextList(vec!["länger".into(), "kurz".into()])),
                attribute("c", &Value::Int(1_234_567)),
                attribute("d", &text("left out")),
            ],
            links: vec![link.clone(), link],
            ..span(1)
        };
        let limits = Limits { value_length: Some(5), attributes: 3, links: 1, link_attributes: 1 };
        let told = limits.apply(&mut cut);
        assert_eq!(told, Cut { values: 3, attributes: 2, links: 1 });
        assert_eq!(
            cut.attributes,
            [
                attribute("a", &text("länge")),
                attribute("b", &Value::TextList(vec!["länge".into(), "kurz".into()])),
                attribute("c", &Value::Int(1_234_567)),
            ]
        );
        assert_eq!((cut.dropped_attributes, cut.dropped_links), (1, 1));
        assert_eq!(cut.links[0].attributes, [("a", text("länge"))]);
        assert_eq!(cut.links[0].dropped_attributes, 1);

        let mut whole = span(1);
        assert_eq!(Limits::default().apply(&mut whole), Cut::default());
        assert_eq!(whole, span(1));
    }
}
