//! Samplers of a file as the variables have them: a name and perhaps a ratio.

use super::FileError;
use super::declarative::Sampler;

/// The name and the ratio; `error` places a complaint at a path.
pub(super) fn sampler(
    sampler: &Sampler,
    path: &str,
    error: &dyn Fn(&str, &str) -> FileError,
) -> Result<(String, Option<f64>), FileError> {
    let given = [
        sampler.always_on.is_some(),
        sampler.always_off.is_some(),
        sampler.trace_id_ratio_based.is_some(),
        sampler.probability.is_some(),
        sampler.parent_based.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err(error(
            path,
            "one sampler is needed: always_on, always_off, trace_id_ratio_based, \
             probability/development or parent_based",
        ));
    }
    if let Some(parent_based) = &sampler.parent_based {
        let path = format!("{path}.parent_based.root");
        let (name, ratio) = match &parent_based.root {
            None => ("always_on".to_owned(), None),
            Some(root) if root.parent_based.is_some() => {
                return Err(error(&path, "a root has no parent to go by"));
            }
            Some(root) => self::sampler(root, &path, error)?,
        };
        return Ok((format!("parentbased_{name}"), ratio));
    }
    if let Some(by_ratio) = sampler.trace_id_ratio_based.as_ref().or(sampler.probability.as_ref()) {
        let ratio = by_ratio.ratio.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&ratio) {
            return Err(error(path, "a ratio is a number from 0 to 1"));
        }
        return Ok(("traceidratio".to_owned(), Some(ratio)));
    }
    let name = if sampler.always_on.is_some() { "always_on" } else { "always_off" };
    Ok((name.to_owned(), None))
}
