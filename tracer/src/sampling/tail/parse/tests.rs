use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Policy {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_condition_has_its_text() {
    for text in [
        "always",
        "error",
        "latency>1s",
        "latency>1m30s",
        "probability 0.01",
        "rate 100 traces/s",
        "rate 0.5 spans/s",
        "attribute user.id",
        "attribute url.path=\"/health\"",
        "attribute url.path!=\"it's\"",
        "attribute url.path~'^/\"a\"'",
        "attribute http.response.status_code>399.5",
        "attribute http.response.status_code>=400",
        "attribute http.response.status_code<400",
        "attribute http.response.status_code<=400",
        "route \"/users/{id}\"",
        "service \"pay*\" (always)",
        "service \"checkout\" (error or probability 0.1)",
        "not (error)",
        "error or latency>1s or probability 0.01",
        "error and not (route \"/health\")",
        "(error or always) and (always or error)",
        "error and always or error",
    ] {
        let policy = parse(text);
        let again = policy.to_string();
        assert_eq!(parse(&again), policy, "{again}");
        if text != "error and always or error" {
            assert_eq!(again, text);
        }
    }
}

#[test]
fn the_usual_wish_is_one_line() {
    assert_eq!(
        parse("error or latency>1s or probability 1%"),
        Policy::Or(vec![
            Policy::Error,
            Policy::Latency("1s".parse().unwrap()),
            Policy::Probability("0.01".parse().unwrap()),
        ])
    );
}

#[test]
fn and_binds_more_than_or_and_not_most() {
    assert_eq!(parse("always or error and always"), parse("always or (error and always)"));
    assert_eq!(parse("not error and always"), parse("(not error) and always"));
    assert_eq!(parse("not not error"), parse("not (not (error))"));
}

#[test]
fn spelling_is_free_where_it_cannot_mislead() {
    assert_eq!(parse(" error  or\tlatency > 1s "), parse("errors or latency>1s"));
    assert_eq!(parse("service=shop"), parse("service 'shop' (always)"));
    assert_eq!(parse("route=/users/{id}"), parse("route '/users/{id}'"));
    assert_eq!(parse("attribute a.b = c"), parse("attribute 'a.b'=\"c\""));
}

#[test]
fn errors_tell_where_and_what_to_write() {
    for (text, column, what) in [
        ("", 1, "expected one of always"),
        ("eror", 1, "`eror` is no condition; expected one of always"),
        ("error or latncy>1s", 10, "`latncy` is no condition"),
        ("error or", 9, "expected one of always"),
        ("error error", 7, "expected `and`, `or` or the end"),
        ("error)", 6, "no bracket is open"),
        ("(error or (always)", 1, "this bracket is never closed"),
        ("(error always)", 8, "expected `and`, `or` or `)`"),
        ("latency 1s", 9, "expected `>`"),
        ("latency<1s", 8, "expected `>`"),
        ("latency>", 9, "expected a duration"),
        ("latency>quick", 9, "but `quick`"),
        ("probability 101%", 13, "but `101%`"),
        ("probability", 12, "expected a part of all traces"),
        ("rate fast traces/s", 6, "but `fast`"),
        ("rate -1 traces/s", 6, "expected a number and a unit"),
        ("rate inf traces/s", 6, "expected a number and a unit"),
        ("rate 100", 9, "expected `traces/s` or `spans/s`"),
        ("rate 100 bytes/s", 10, "expected `traces/s` or `spans/s`"),
        ("attribute", 10, "the name of an attribute"),
        ("attribute a == b", 13, "expected one of ="),
        ("attribute a > b", 15, "a number"),
        ("attribute a ~ '['", 15, "a regular expression"),
        ("route users", 7, "must begin with `/`"),
        ("service 'a[' (error)", 9, "is not a pattern"),
        ("service ä and 'x", 15, "never closed"),
        ("error or not probability 1%", 10, "`not` cannot be applied"),
        ("not (error and rate 1 spans/s)", 1, "`not` cannot be applied"),
    ] {
        let error = text.parse::<Policy>().unwrap_err();
        assert!(error.to_string().contains(what), "{text}: {error}");
        assert_eq!(error.column(), column, "{error}");
    }
    let shown = "error or latncy>1s".parse::<Policy>().unwrap_err().to_string();
    let lines: Vec<_> = shown.lines().skip(1).collect();
    assert_eq!(lines, ["  error or latncy>1s", "           ^"]);
}

#[test]
fn depth_is_bounded() {
    let nested = |depth| format!("{}error{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(MAX_DEPTH).parse::<Policy>().is_ok());
    assert!(nested(MAX_DEPTH + 1).parse::<Policy>().is_err());
    assert!(format!("{}error", "not ".repeat(100_000)).parse::<Policy>().is_err());
}

#[test]
fn trees_are_read_from_data_and_checked() {
    let json = r#"{"or": ["error", {"latency": "1s"}, {"probability": "1%"}, {"service":
        {"name": "pay*", "policy": {"not": {"route": "/health"}}}},
        {"and": [{"rate": {"limit": 10, "unit": "spans"}},
        {"attribute": {"name": "a", "test": {"more_than": 1}}}, {"attribute": {"name": "b"}}]}]}"#;
    let policy: Policy = serde_json::from_str(json).unwrap();
    let text = "error or latency>1s or probability 1% or service pay* (not route /health) or \
                rate 10 spans/s and attribute a>1 and attribute b";
    assert_eq!(policy, parse(text));
    assert_eq!(policy.check(), Ok(()));
    let again = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&again).unwrap(), policy);

    for (json, error) in [
        (
            r#"{"not": {"service": {"name": "a", "policy": {"probability": "1%"}}}}"#,
            PolicyError::NotOverChance,
        ),
        (r#"{"or": [{"and": []}]}"#, PolicyError::Empty),
    ] {
        assert_eq!(serde_json::from_str::<Policy>(json).unwrap().check(), Err(error), "{json}");
    }
    for json in [
        r#"{"latency": "soon"}"#,
        r#"{"probability": "2"}"#,
        r#""never""#,
        r#"{"service": {"name": "a"}}"#,
    ] {
        assert!(serde_json::from_str::<Policy>(json).is_err(), "{json}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z() '\"<>=~!/%.0-9ä]{0,60}") {
        if let Err(error) = text.parse::<Policy>() {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn words_in_any_order_are_read_back_or_refused(words in proptest::collection::vec(
        prop::sample::select(vec![
            "error", "always", "or", "and", "not", "(", ")", "latency", ">", "1s", "probability",
            "1%", "rate", "traces/s", "5", "route", "/a", "service", "shop", "attribute", "x",
        ]), 0..14)
    ) {
        if let Ok(policy) = words.join(" ").parse::<Policy>() {
            prop_assert_eq!(parse(&policy.to_string()), policy);
        }
    }
}
