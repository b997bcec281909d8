//! Heads that carry contexts already, valid or not.

/// A head, and what becomes of the contexts in it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) head: Vec<u8>,
    /// The context fields that remain; `None` if a new trace begins.
    kept: Option<Vec<String>>,
}

const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const CONTEXT_FIELDS: [&str; 4] = ["traceparent", "tracestate", "b3", "x-b3-"];

pub(crate) fn all() -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |name: String, fields: Vec<String>, is_kept: bool| {
        // At every place among other fields.
        for before in 0..=2 {
            let others = ["Host: a", "X-Other:  b"];
            let lines: Vec<_> = others[..before]
                .iter()
                .copied()
                .chain(fields.iter().map(String::as_str))
                .chain(others[before..].iter().copied())
                .collect();
            let head = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
            let kept = is_kept.then(|| fields.clone());
            all.push(Case { name: format!("{name}, after {before}"), head: head.into(), kept });
        }
    };
    for name in ["traceparent", "TraceParent", "TRACEPARENT", "tRaCePaReNt", "Traceparent"] {
        add(format!("{name}, valid"), vec![format!("{name}: {VALID}")], true);
        add(format!("{name}, blanks"), vec![format!("{name}:\t {VALID} \t")], true);
        add(format!("{name}, no blank"), vec![format!("{name}:{VALID}")], true);
        add(format!("{name}, invalid"), vec![format!("{name}: nothing")], false);
        add(format!("{name}, empty"), vec![format!("{name}:")], false);
        add(
            format!("{name}, twice"),
            vec![format!("{name}: {VALID}"), format!("traceparent: {VALID}")],
            false,
        );
        add(format!("{name}, long"), vec![format!("{name}: {}", "x".repeat(20_000))], false);
    }
    for (name, value, is_kept) in [
        ("version ff", VALID.replacen("00", "ff", 1), false),
        ("version cc", VALID.replacen("00", "cc", 1), true),
        ("version cc with more", format!("cc{}-more", &VALID[2..]), true),
        ("version 00 with more", format!("{VALID}-more"), false),
        ("upper case", VALID.to_uppercase(), false),
        ("two", format!("{VALID}, {VALID}"), false),
        ("zero", "00-00000000000000000000000000000000-0000000000000000-00".to_owned(), false),
    ] {
        add(name.into(), vec![format!("traceparent: {value}")], is_kept);
    }
    let parent = format!("traceparent: {VALID}");
    for (name, fields, is_kept) in [
        ("none", vec![], false),
        ("state", vec![&*parent, "tracestate: a=1"], true),
        ("two states", vec!["Tracestate: a=1", &parent, "TRACESTATE: b=2"], true),
        ("bad state", vec![&parent, "tracestate: A=,"], true),
        ("state alone", vec!["tracestate: a=1"], false),
        ("bad parent with state", vec!["traceparent: x", "tracestate: a=1"], false),
        ("b3", vec!["b3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"], true),
        (
            "b3, multiple",
            vec!["X-B3-TraceId: b7ad6b7169203331", "X-B3-SpanId: b7ad6b7169203331"],
            true,
        ),
    ] {
        add(name.into(), fields.into_iter().map(str::to_owned).collect(), is_kept);
    }
    all
}

impl Case {
    /// One context, and everything else as it was.
    pub(crate) fn check(&self, arrived: &[u8]) {
        let name = &self.name;
        let (arrived, sent) = (text(arrived), text(&self.head));
        let (contexts, others): (Vec<_>, Vec<_>) =
            lines(&arrived).partition(|line| is_context(line));
        let sent_others: Vec<_> = lines(&sent).filter(|line| !is_context(line)).collect();
        assert_eq!(others, sent_others, "{name}");
        if let Some(kept) = &self.kept {
            let kept: Vec<_> = kept.iter().map(|field| format!("{field}\r\n")).collect();
            assert_eq!(contexts, kept, "{name}");
            assert_eq!(arrived, sent, "{name}");
        } else {
            assert_eq!(contexts.len(), 1, "{name}: {contexts:?}");
            assert!(contexts[0].starts_with("traceparent: 00-"), "{name}: {contexts:?}");
            assert!(contexts[0].ends_with("-03\r\n") && contexts[0].len() == 13 + 55 + 2, "{name}");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn lines(head: &str) -> impl Iterator<Item = &str> {
    head.split_inclusive("\r\n")
}

fn is_context(line: &str) -> bool {
    let line = line.to_lowercase();
    let name = line.split(':').next().unwrap_or_default();
    CONTEXT_FIELDS
        .iter()
        .any(|field| name == *field || (*field == "x-b3-" && name.starts_with(field)))
}
