//! What somebody probably meant to write.

/// How alike two words have to be, from 0 to 1.
const ALIKE: f64 = 0.8;
/// Candidates that are worth listing if none is alike.
const FEW: usize = 12;

/// A message about a word that is not one of `known`: with the nearest of them, or else all if they
/// are few.
pub(super) fn unknown<'a>(
    what: &str,
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    let nearest = known
        .clone()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    if let Some((likeness, candidate)) = nearest
        && likeness >= ALIKE
    {
        return format!("unknown {what} `{word}`; did you mean `{candidate}`?");
    }
    let all: Vec<&str> = known.collect();
    if (1..=FEW).contains(&all.len()) {
        return format!("unknown {what} `{word}`; known are {}", all.join(", "));
    }
    format!("unknown {what} `{word}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested() {
        let known = ["ring_size", "backend", "max_connections"];
        let say = |word| unknown("key", word, known.into_iter());
        assert_eq!(say("ring_szie"), "unknown key `ring_szie`; did you mean `ring_size`?");
        assert_eq!(
            say("colour"),
            "unknown key `colour`; known are ring_size, backend, max_connections"
        );
    }
}
