//! `${VARIABLE}`, `${env:VARIABLE}` and `${VARIABLE:-default}` in values, as OpenTelemetry's
//! declarative configuration has it. `$$` is a dollar sign.

/// What stands between `${` and `}` and is no reference.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`${{{0}` is no reference to a variable; write it like ${{NAME}} or ${{NAME:-default}}, and a \
     dollar sign as $$"
)]
pub(super) struct BadReference(String);

/// Puts variables in. One that is not set is empty, unless there is a default.
pub(super) fn substitute(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, BadReference> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (reference, after) =
                after.split_once('}').ok_or_else(|| BadReference(after.to_owned()))?;
            let bad = || BadReference(format!("{reference}}}"));
            let (name, default) = match reference.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (reference, None),
            };
            let name = name.strip_prefix("env:").unwrap_or(name);
            if !is_name(name) {
                return Err(bad());
            }
            let value = variable(name).filter(|value| !value.is_empty());
            result.push_str(value.as_deref().or(default).unwrap_or_default());
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    Ok(result)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_values() {
        let variable = |name: &str| match name {
            "HOST" => Some("h".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("${HOST}".to_owned()),
            _ => None,
        };
        for (text, expected) in [
            ("plain", "plain"),
            ("http://${HOST}:${PORT:-4318}/", "http://h:4318/"),
            ("${env:HOST}", "h"),
            ("${EMPTY:-x}", "x"),
            ("${NOTHING}", ""),
            ("${NOTHING:-}", ""),
            ("${NOTHING:-a:-b}", "a:-b"),
            ("$${HOST} $$ $x", "${HOST} $ $x"),
            ("${DOLLAR}", "${HOST}"),
        ] {
            assert_eq!(substitute(text, &variable), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["${", "${HOST", "${}", "${1A}", "${A B}", "${sys:HOST}", "${A:?x}"] {
            assert!(substitute(text, &|_| None).is_err(), "{text}");
        }
    }
}
