//! Formats of trace context that requests carry beside `traceparent`, by the names that
//! `OTEL_PROPAGATORS` has for them.

use super::heads::B3;

/// Why a list of formats cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "OTEL_PROPAGATORS is `none`, yet --propagate proxy is there to write trace context; leave one \
     of them out"
)]
pub struct NoFormat;

/// What a list asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// B3 fields.
    pub b3: B3,
    /// Names of formats that are not written.
    pub unknown: Vec<String>,
}

impl Formats {
    /// Of the value of `OTEL_PROPAGATORS`; an empty one is none.
    ///
    /// `tracecontext` is written in any case, for agents read no other format with all that it
    /// says; `baggage` passes in any case.
    pub fn parse(list: &str) -> Result<Self, NoFormat> {
        let mut formats = Self::default();
        let mut none = false;
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name.to_ascii_lowercase().as_str() {
                "tracecontext" | "baggage" => {}
                "b3" => formats.b3.single = true,
                "b3multi" => formats.b3.multiple = true,
                "none" => none = true,
                _ => formats.unknown.push(name.to_owned()),
            }
        }
        if none { Err(NoFormat) } else { Ok(formats) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_or_named() {
        let b3 = |single, multiple| B3 { single, multiple };
        for (list, expected, unknown) in [
            ("", b3(false, false), vec![]),
            ("tracecontext,baggage", b3(false, false), vec![]),
            ("b3", b3(true, false), vec![]),
            (" tracecontext , B3Multi,", b3(false, true), vec![]),
            ("b3,b3multi,b3", b3(true, true), vec![]),
            ("jaeger,b3,xray", b3(true, false), vec!["jaeger", "xray"]),
        ] {
            let formats = Formats::parse(list).unwrap();
            assert_eq!(
                (formats.b3, formats.unknown),
                (expected, unknown.iter().map(ToString::to_string).collect()),
                "{list}"
            );
        }
        assert_eq!(Formats::parse("none"), Err(NoFormat));
        assert_eq!(Formats::parse("none,b3"), Err(NoFormat));
    }
}
