//! The rules of W3C Trace Context, level 2, for somebody between two services, as a table: what a
//! request carries, and what is to become of it.

/// A trace that requests of the table belong to.
pub const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// The span that sent them.
pub const PARENT: &str = "b7ad6b7169203331";
/// Both, sampled.
pub const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Header fields of a request, in order.
pub type Fields = Vec<(String, String)>;

/// What is to become of a request's context.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Its trace goes on with these flags and this state.
    Continues(&'static str, String),
    /// A trace begins.
    Restarts,
}

/// One rule.
pub struct Case {
    /// Its name.
    pub rule: &'static str,
    /// What the request carries.
    pub fields: Fields,
    /// What becomes of it.
    pub fate: Fate,
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// One `traceparent`.
pub fn parent(value: &str) -> Fields {
    vec![field("traceparent", value)]
}

/// A valid parent with these states.
fn states(values: &[&str]) -> Fields {
    parent(VALID).into_iter().chain(values.iter().map(|it| field("tracestate", it))).collect()
}

/// Versions, ids, flags, and how often.
pub fn traceparent_rules() -> Vec<Case> {
    let goes_on = |rule, value: &str, flags| Case {
        rule,
        fields: [parent(value), vec![field("tracestate", "a=1")]].concat(),
        fate: Fate::Continues(flags, "a=1".to_owned()),
    };
    let restarts = |rule, value: &str| Case {
        rule,
        fields: [parent(value), vec![field("tracestate", "a=1")]].concat(),
        fate: Fate::Restarts,
    };
    let with = |from: &str, to: &str| VALID.replacen(from, to, 1);
    let named = |rule, names: &[&str], fate| Case {
        rule,
        fields: names.iter().map(|name| field(name, VALID)).collect(),
        fate,
    };
    let on = || Fate::Continues("01", String::new());
    let zero_trace = "0".repeat(32);
    let mut cases = vec![
        Case { rule: "no header", fields: vec![], fate: Fate::Restarts },
        goes_on("sampled", VALID, "01"),
        goes_on("not sampled", &with("-01", "-00"), "00"),
        goes_on("random, level 2", &with("-01", "-02"), "02"),
        goes_on("sampled and random, level 2", &with("-01", "-03"), "03"),
        goes_on("flags to come", &with("-01", "-ff"), "03"),
        named("name in mixed case", &["TraceParent"], on()),
        named("name in upper case", &["TRACEPARENT"], on()),
        named("name with a dash", &["trace-parent"], Fate::Restarts),
        named("name with a dot", &["trace.parent"], Fate::Restarts),
        named("twice the same", &["traceparent", "traceparent"], Fate::Restarts),
        Case {
            rule: "two that differ",
            fields: [parent(VALID), parent(&with("b7", "c7"))].concat(),
            fate: Fate::Restarts,
        },
        goes_on("blanks and tabs around", &format!(" \t{VALID}\t "), "01"),
        goes_on("version to come", &with("00", "cc"), "01"),
        goes_on("version to come, one field more", &format!("{}-what", with("00", "cc")), "01"),
        goes_on("version to come, empty field", &format!("{}-", with("00", "cc")), "01"),
        goes_on("version 01", &with("00", "01"), "01"),
    ];
    cases.extend(
        [
            ("empty", String::new()),
            ("two in one field", format!("{VALID},{VALID}")),
            ("version 00, one field more", format!("{VALID}-what")),
            ("version 00, trailing dash", format!("{VALID}-")),
            ("version 00, trailing character", format!("{VALID}.")),
            ("version to come, run on", format!("{}.what", with("00", "cc"))),
            ("version ff", with("00", "ff")),
            ("version ff, one field more", format!("{}-what", with("00", "ff"))),
            ("version no hex", with("00", ".0")),
            ("version no hex behind", with("00", "0.")),
            ("version in upper case", with("00", "CC")),
            ("version too long", with("00", "000")),
            ("version too short", with("00", "0")),
            ("trace id zero", with(TRACE, &zero_trace)),
            ("trace id no hex", with("0af", "0.f")),
            ("trace id in upper case", with(TRACE, &TRACE.to_uppercase())),
            ("trace id too long", with("0af", "00af")),
            ("trace id too short", with("0af", "af")),
            ("parent id zero", with(PARENT, "0000000000000000")),
            ("parent id no hex", with("b7ad", "b.ad")),
            ("parent id in upper case", with("b7ad", "B7AD")),
            ("parent id too long", with("b7ad", "bb7ad")),
            ("parent id too short", with("b7ad", "7ad")),
            ("flags no hex", with("-01", "-.0")),
            ("flags in upper case", with("-01", "-0A")),
            ("flags too long", with("-01", "-001")),
            ("flags too short", with("-01", "-1")),
            ("blank inside", with("-b7", "- b7")),
            ("underscores", VALID.replace('-', "_")),
        ]
        .map(|(rule, value)| restarts(rule, &value)),
    );
    cases
}

/// Members, limits, and how they are joined.
pub fn tracestate_rules() -> Vec<Case> {
    let goes_on = |rule, values: &[&str], state: &str| Case {
        rule,
        fields: states(values),
        fate: Fate::Continues("01", state.to_owned()),
    };
    let members =
        |count| (0..count).map(|at| format!("bar{at:02}={at:02}")).collect::<Vec<_>>().join(",");
    let (most, too_many) = (members(32), members(33));
    let key = "0123456789abcdefghijklmnopqrstuvwxyz_-*/@=1";
    let value: String = "a=".chars().chain(('!'..='~').filter(|it| !",=".contains(*it))).collect();
    let [key_256, key_257] = [256, 257].map(|length| format!("{}=1", "z".repeat(length)));
    let [value_256, value_257] = [256, 257].map(|length| format!("a={}", "v".repeat(length)));
    // Fifteen of forty bytes: more than everybody has to pass on.
    let long: Vec<_> = (0..15).map(|at| format!("k{at:02}={}", "v".repeat(36))).collect();
    let long_kept = long[..12].join(",");
    let named = |name: &str, fate| Case {
        rule: "state's name",
        fields: [parent(VALID), vec![field(name, "a=1")]].concat(),
        fate,
    };
    vec![
        Case {
            rule: "state without parent",
            fields: vec![field("tracestate", "a=1")],
            fate: Fate::Restarts,
        },
        named("TraceState", Fate::Continues("01", "a=1".to_owned())),
        named("TRACESTATE", Fate::Continues("01", "a=1".to_owned())),
        named("trace-state", Fate::Continues("01", String::new())),
        goes_on("one field", &["foo=1,bar=2"], "foo=1,bar=2"),
        goes_on("fields in order", &["foo=1,bar=2", "rojo=1"], "foo=1,bar=2,rojo=1"),
        goes_on("empty field", &[""], ""),
        goes_on("empty field first", &["", "foo=1"], "foo=1"),
        goes_on("empty field last", &["foo=1", ""], "foo=1"),
        goes_on("empty members", &["foo=1,,bar=2,"], "foo=1,bar=2"),
        goes_on("key twice", &["foo=1,foo=2"], "foo=1,foo=2"),
        goes_on("key twice in two fields", &["foo=1", "foo=2"], "foo=1,foo=2"),
        goes_on("blanks and tabs between", &["foo=1 \t , \tbar=2"], "foo=1,bar=2"),
        goes_on("blanks around", &["  foo=1\t"], "foo=1"),
        goes_on("all characters of keys", &[key], key),
        goes_on("all characters of values", &[&value], &value),
        goes_on("key of a tenant", &["t61rcwkgmze@sys=1"], "t61rcwkgmze@sys=1"),
        goes_on("key begins with a digit, level 2", &["0a=1"], "0a=1"),
        goes_on("two @, level 2", &["foo@bar@baz=1"], "foo@bar@baz=1"),
        goes_on("key in upper case", &["FOO=1"], ""),
        goes_on("key with a dot", &["foo.bar=1"], ""),
        goes_on("key begins with @", &["@foo=1"], ""),
        goes_on("key empty", &["=1"], ""),
        goes_on("blank behind a key", &["foo =1"], ""),
        goes_on("no equals sign", &["foo"], ""),
        goes_on("value with an equals sign", &["foo=bar=baz"], ""),
        goes_on("value empty", &["foo=,bar=3"], ""),
        goes_on("one bad member", &["foo=1", "BAD=2"], ""),
        goes_on("32 members", &[&most], &most),
        goes_on("33 members", &[&too_many], ""),
        goes_on("key of 256", &[&key_256], &key_256),
        goes_on("key of 257", &[&key_257], ""),
        goes_on("value of 256", &[&value_256], &value_256),
        goes_on("value of 257", &[&value_257], ""),
        goes_on("more than everybody passes on", &[&long.join(",")], &long_kept),
    ]
}

/// What else carries context, and what is nobody's business.
pub fn other_rules() -> Vec<Case> {
    let single = format!("{TRACE}-{PARENT}-1");
    let on = || Fate::Continues("01", String::new());
    vec![
        Case { rule: "b3", fields: vec![field("b3", &single)], fate: on() },
        Case {
            rule: "b3 beside a broken parent",
            fields: vec![field("traceparent", "what"), field("B3", &single)],
            fate: on(),
        },
        Case {
            rule: "b3 of many fields",
            fields: vec![
                field("X-B3-TraceId", TRACE),
                field("X-B3-SpanId", PARENT),
                field("X-B3-Sampled", "1"),
            ],
            fate: on(),
        },
        Case {
            rule: "baggage",
            fields: [parent(VALID), vec![field("Baggage", "a=1;p, b=%20 ,c=3")]].concat(),
            fate: on(),
        },
    ]
}
