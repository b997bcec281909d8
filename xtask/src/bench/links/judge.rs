//! Whether the calls in the exported spans have the right parents.
//!
//! A call is *right* when its client span's parent is the server span of the request with the same
//! tag, in the same trace; *orphan* when it has no parent; *wrong* when it has any other. A call
//! that has no span is *missing*.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use tracer_tests::{Kind, Span};

use super::driver::Sent;
use super::leaf::Asked;
use super::plan::{Call, Tag};

/// Tells on a span which evidence decided about its parent.
const LINK: &str = "tracer.link";
/// Findings that are described in words.
const EXAMPLES: usize = 5;

/// How many of something were judged how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) right: u64,
    pub(crate) orphan: u64,
    pub(crate) wrong: u64,
}

/// Spans that there are not, and that there should not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) expected: u64,
    pub(crate) missing: u64,
    pub(crate) surplus: u64,
}

/// Outcome for one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// By client span.
    pub(crate) calls: Tally,
    /// Requests that made a call: right when all its calls are, wrong when any is.
    pub(crate) requests: Tally,
    /// Client spans, against what the leaf was asked.
    pub(crate) outbound: Coverage,
    /// Server spans, against the requests that were answered.
    pub(crate) inbound: Coverage,
    /// Client spans by the evidence they name.
    pub(crate) links: BTreeMap<String, u64>,
    /// Some of what is wrong, missing or surplus, in words.
    pub(crate) examples: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Judgement {
    Right,
    Orphan,
    Wrong,
}

impl Tally {
    fn add(&mut self, judgement: Judgement) {
        match judgement {
            Judgement::Right => self.right += 1,
            Judgement::Orphan => self.orphan += 1,
            Judgement::Wrong => self.wrong += 1,
        }
    }

    /// How many there are.
    pub(crate) fn total(self) -> u64 {
        self.right + self.orphan + self.wrong
    }
}

/// Judges the spans of a run by what the leaf was asked and how often each request was sent.
///
/// A request that was sent again may have been read before its connection was closed: it has one
/// span at least, and at most as many as times it was sent.
pub(crate) fn judge(spans: &[Span], asked: &Asked, sent: &Sent) -> Verdict {
    let mut verdict = Verdict::default();
    let of_kind = |kind| spans.iter().filter(move |span| span.kind == kind);
    let servers: HashMap<(&str, &str), Option<Tag>> = of_kind(Kind::Server)
        .map(|span| ((&*span.trace_id, &*span.span_id), path(span).and_then(Tag::in_path)))
        .collect();

    let inbound = of_kind(Kind::Server).map(|span| path(span).and_then(Tag::in_path));
    let requests = sent.iter().map(|(tag, times)| (*tag, 1..=*times));
    verdict.inbound = cover(requests, inbound, |what, tag| {
        verdict.examples.push(format!("{what} server span of request {}", tag.0));
    });
    let outbound = of_kind(Kind::Client).map(|span| path(span).and_then(Call::in_path));
    let calls = asked.iter().map(|(call, times)| (*call, *times..=*times));
    verdict.outbound = cover(calls, outbound, |what, call| {
        verdict.examples.push(format!("{what} client span of {}", call.path()));
    });

    let mut judged = BTreeMap::<Tag, Vec<Judgement>>::new();
    for span in of_kind(Kind::Client) {
        if let Some(kind) = span.attributes.text(LINK) {
            *verdict.links.entry(kind.to_owned()).or_default() += 1;
        }
        let Some(call) = path(span).and_then(Call::in_path) else { continue };
        let parent = span.parent_span_id.as_deref();
        let judgement = match parent.map(|parent| servers.get(&(&*span.trace_id, parent))) {
            None => Judgement::Orphan,
            Some(Some(Some(tag))) if *tag == call.tag => Judgement::Right,
            Some(found) => {
                verdict.examples.push(match found {
                    Some(Some(tag)) => format!("{} was given to request {}", call.path(), tag.0),
                    _ => format!("{} was given a parent that is no request", call.path()),
                });
                Judgement::Wrong
            }
        };
        verdict.calls.add(judgement);
        judged.entry(call.tag).or_default().push(judgement);
    }

    let mut expected = BTreeMap::<Tag, u32>::new();
    for (call, times) in asked {
        *expected.entry(call.tag).or_default() += times;
    }
    for (tag, calls) in expected {
        let judged = judged.remove(&tag).unwrap_or_default();
        // A call without a span leaves its request at best incomplete.
        let complete = judged.len() as u64 >= u64::from(calls);
        let worst = judged.into_iter().max().unwrap_or(Judgement::Orphan);
        verdict.requests.add(match worst {
            Judgement::Right if !complete => Judgement::Orphan,
            worst => worst,
        });
    }
    verdict.examples.truncate(EXAMPLES);
    verdict
}

/// Compares the spans seen with how many there must and may be of each thing; `None` is a span of
/// nothing that was asked for.
fn cover<K: Copy + Ord>(
    expected: impl Iterator<Item = (K, RangeInclusive<u32>)>,
    seen: impl Iterator<Item = Option<K>>,
    mut finding: impl FnMut(&str, K),
) -> Coverage {
    let mut coverage = Coverage::default();
    let mut counts = BTreeMap::<K, u32>::new();
    for key in seen {
        match key {
            Some(key) => *counts.entry(key).or_default() += 1,
            None => coverage.surplus += 1,
        }
    }
    for (key, range) in expected {
        coverage.expected += u64::from(*range.start());
        let count = counts.remove(&key).unwrap_or(0);
        if count < *range.start() {
            coverage.missing += u64::from(range.start() - count);
            finding("no", key);
        } else if count > *range.end() {
            coverage.surplus += u64::from(count - range.end());
            finding("one more", key);
        }
    }
    for (key, count) in counts {
        coverage.surplus += u64::from(count);
        finding("unasked", key);
    }
    coverage
}

/// The path of a span's request.
fn path(span: &Span) -> Option<&str> {
    if let Some(path) = span.attributes.text("url.path") {
        return Some(path);
    }
    let (_, rest) = span.attributes.text("url.full")?.split_once("://")?;
    Some(&rest[rest.find('/')?..])
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
