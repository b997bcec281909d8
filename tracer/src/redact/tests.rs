use proptest::prelude::*;

use super::*;
use crate::export::fixtures;

fn redactor(rules: &[&str], allowed: &[&str]) -> Redactor {
    Redactor::new(Options {
        rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(),
        allowed: allowed.iter().map(|pattern| pattern.parse().unwrap()).collect(),
        ..Options::default()
    })
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn span(attributes: &[(&'static str, Value)]) -> Span {
    let attributes = attributes.iter().map(|(name, value)| ((*name).into(), value.clone()));
    Span { attributes: attributes.collect(), ..fixtures::span(1) }
}

/// What is left of an attribute named `a`.
fn left(rules: &[&str], value: Value) -> Option<Value> {
    let mut span = span(&[("a", value)]);
    redactor(rules, &[]).redact(&mut span);
    span.attributes.pop().map(|(_, value)| value)
}

#[test]
fn every_action_does_what_it_says() {
    let card = text("paid with 4111 1111 by x");
    for (rules, value, expected) in [
        (&["a=keep"][..], card.clone(), Some(card.clone())),
        (&["b=delete"], card.clone(), Some(card.clone())),
        (&["a=delete"], card.clone(), None),
        (&["a=mask"], card.clone(), Some(text(REDACTED))),
        (&["a=mask:[0-9]{4}"], card.clone(), Some(text("paid with REDACTED REDACTED by x"))),
        (&["a=mask:[a-z]+@"], card.clone(), Some(card.clone())),
        (
            &["*=mask:4111", "?=mask:1111"],
            card.clone(),
            Some(text("paid with REDACTED REDACTED by x")),
        ),
        (&["a=mask:paid", "a=mask"], card.clone(), Some(text(REDACTED))),
        (&["a=keep", "a=delete"], card.clone(), Some(card.clone())),
        (&["a=mask", "a=delete"], card.clone(), Some(text(REDACTED))),
        (&["a=mask"], Value::Int(7), Some(text(REDACTED))),
        (&["a=mask:7"], Value::Int(8), Some(Value::Int(8))),
        (&["a=mask:^1"], Value::Double(1.5), Some(text("REDACTED.5"))),
        (&["a=mask"], Value::Bool(true), Some(text(REDACTED))),
        (
            &["a=mask:x"],
            Value::TextList(vec!["x".into(), "y".into()]),
            Some(Value::TextList(vec![REDACTED.into(), "y".into()])),
        ),
    ] {
        assert_eq!(left(rules, value), expected, "{rules:?}");
    }
}

#[test]
fn digests_tell_equal_from_different_and_depend_on_the_key() {
    let digest = |value: &str, key: Option<&str>| {
        let rules = vec!["a=hash".parse().unwrap()];
        let hash_key = key.map(str::to_owned);
        let mut redactor = Redactor::new(Options { rules, hash_key, ..Options::default() });
        let mut span = span(&[("a", text(value))]);
        redactor.redact(&mut span);
        assert_eq!(redactor.counts().hashed, 1);
        span.text("a").unwrap().to_owned()
    };
    let ada = digest("ada", Some("key"));
    assert_eq!(ada.len(), 32);
    assert_eq!(digest("ada", Some("key")), ada);
    assert_ne!(digest("bob", Some("key")), ada);
    assert_ne!(digest("ada", Some("other")), ada);
    // RFC 4231 does not have the empty key; this is HMAC-SHA-256 of nothing by nothing.
    assert_eq!(digest("", None), "b613679a0814d9ec772f95d778c35fc5");
}

#[test]
fn only_allowed_attributes_stay() {
    let mut redactor = redactor(&["http.route=mask"], &["http.*", "url.path"]);
    let mut span =
        span(&[("http.route", text("/a")), ("url.path", text("/b")), ("url.query", text("c"))]);
    redactor.redact(&mut span);
    let names: Vec<_> = span.attributes.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["http.route", "url.path"]);
    assert_eq!(span.text("http.route"), Some(REDACTED));
    assert_eq!(span.resource.attributes.len(), 1, "the service's name");
    assert_eq!(redactor.counts().deleted, 1);
}

#[test]
fn resources_are_redacted_once() {
    let mut redactor = redactor(&["service.name=hash"], &[]);
    let (mut one, mut two) = (span(&[]), span(&[]));
    redactor.redact(&mut one);
    redactor.redact(&mut two);
    assert!(Arc::ptr_eq(&one.resource, &two.resource));
    assert_ne!(one.resource.attributes, fixtures::span(1).resource.attributes);
    assert_eq!(redactor.counts().hashed, 1);
}

#[test]
fn secret_headers_are_masked_unless_a_rule_is_for_exactly_that_one() {
    let name = |header: &str| format!("http.request.header.{header}");
    let plain = redactor(&[], &[]);
    for header in SECRET_HEADERS {
        assert!(plain.masks_header(header, &name(header)));
    }
    assert!(!plain.masks_header("x-request-id", &name("x-request-id")));
    let rules = ["*=mask:[0-9]+", "http.*=keep", "http.request.header.cookie=mask:sid=[^;]*"];
    let keeping = redactor(&rules, &[]);
    assert!(!keeping.masks_header("cookie", &name("cookie")));
    assert!(keeping.masks_header("authorization", &name("authorization")));
}

#[test]
fn without_rules_a_span_stays_as_it_is() {
    let mut whole = span(&[("a", text("b"))]);
    let before = whole.clone();
    let mut redactor = Redactor::new(Options::default());
    redactor.redact(&mut whole);
    assert_eq!(whole, before);
    assert!(Arc::ptr_eq(&whole.resource, &before.resource));
    assert_eq!(redactor.counts(), Counts::default());
}

proptest! {
    #[test]
    fn no_card_number_survives(before in "[a-z 0-9]{0,20}", after in "[a-z 0-9]{0,20}") {
        let value = text(&format!("{before}4111111111111111{after}"));
        let Some(Value::Text(left)) = left(&["*=mask:[0-9]{13,}"], value) else { panic!("text") };
        prop_assert!(!left.contains("4111111111111111"));
    }
}
