//! Whether the calls in the exported spans have the right parents.
//!
//! A call is *right* when its client span's parent is the server span of the request with the same
//! tag, in the same process and the same trace; *orphan* when it has no parent; *wrong* when it has
//! any other. Where one service hands the request on to the next, the same holds for each step up
//! to the entry: a chain that ends before it leaves its calls orphans, and a step to another
//! request makes them wrong. A call that has no span is *missing*.

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
    /// Server spans, against the requests that were answered, and client spans of requests that
    /// were handed on.
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

/// Judges the spans of a run by what the leaf was asked and how often each request was sent, where
/// a request passes through so many services, one after the other.
///
/// A request that was sent again may have been read before its connection was closed: it has one
/// span at least, and at most as many as times it was sent.
pub(crate) fn judge(spans: &[Span], asked: &Asked, sent: &Sent, services: u32) -> Verdict {
    let mut verdict = Verdict::default();
    let tree = Tree::of(spans, services);
    let of_kind = |kind| spans.iter().filter(move |span| span.kind == kind);

    let requests = |steps: u32| sent.iter().map(move |(tag, times)| (*tag, steps..=steps * times));
    let inbound = cover(requests(services), of_kind(Kind::Server).map(tag), |what, tag| {
        verdict.examples.push(format!("{what} server span of request {}", tag.0));
    });
    let handed_on = of_kind(Kind::Client).filter(|span| tree.is_handing_on(span)).map(tag);
    let handed_on = cover(requests(services - 1), handed_on, |what, tag| {
        verdict.examples.push(format!("{what} client span that hands on request {}", tag.0));
    });
    verdict.inbound = inbound.with(handed_on);
    let calls_seen = || of_kind(Kind::Client).filter(|span| !tree.is_handing_on(span));
    let outbound = calls_seen().map(|span| path(span).and_then(Call::in_path));
    let calls = asked.iter().map(|(call, times)| (*call, *times..=*times));
    verdict.outbound = cover(calls, outbound, |what, call| {
        verdict.examples.push(format!("{what} client span of {}", call.path()));
    });

    let mut judged = BTreeMap::<Tag, Vec<Judgement>>::new();
    for span in calls_seen() {
        if let Some(kind) = span.attributes.text(LINK) {
            *verdict.links.entry(kind.to_owned()).or_default() += 1;
        }
        let Some(call) = path(span).and_then(Call::in_path) else { continue };
        let judgement = match tree.find_entry(span, call.tag) {
            Ok(()) => Judgement::Right,
            Err(Astray::Nowhere) => Judgement::Orphan,
            Err(Astray::Elsewhere(found)) => {
                verdict.examples.push(match found {
                    Some(tag) => format!("{} was given to request {}", call.path(), tag.0),
                    None => format!("{} was given a parent that is no request", call.path()),
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

/// All spans by their identity.
struct Tree<'a> {
    spans: HashMap<(&'a str, &'a str), &'a Span>,
    services: u32,
}

/// Where a way up ended that should have led to the entry.
enum Astray {
    /// Before it.
    Nowhere,
    /// At another request, or at something that is none.
    Elsewhere(Option<Tag>),
}

impl<'a> Tree<'a> {
    fn of(spans: &'a [Span], services: u32) -> Self {
        let by_id = spans.iter().map(|span| ((&*span.trace_id, &*span.span_id), span));
        Self { spans: by_id.collect(), services }
    }

    /// Whether a client span is not a call, but its request on the way to the next service.
    fn is_handing_on(&self, span: &Span) -> bool {
        self.services > 1 && path(span).is_some_and(|path| Call::in_path(path).is_none())
    }

    /// Goes up from a call to where its request came in.
    fn find_entry(&self, call: &Span, wanted: Tag) -> Result<(), Astray> {
        let mut client = call;
        for service in 1..=self.services {
            let server = self.step_up(client, Kind::Server, wanted)?;
            if server.pid() != client.pid() {
                return Err(Astray::Elsewhere(None));
            }
            if service < self.services {
                client = self.step_up(server, Kind::Client, wanted)?;
            }
        }
        Ok(())
    }

    fn step_up(&self, span: &Span, kind: Kind, wanted: Tag) -> Result<&Span, Astray> {
        let parent = span.parent_span_id.as_deref().ok_or(Astray::Nowhere)?;
        let parent = self.spans.get(&(&*span.trace_id, parent)).ok_or(Astray::Elsewhere(None))?;
        match tag(parent) {
            Some(found) if found == wanted && parent.kind == kind => Ok(parent),
            Some(found) if found != wanted => Err(Astray::Elsewhere(Some(found))),
            _ => Err(Astray::Elsewhere(None)),
        }
    }
}

impl Coverage {
    fn with(self, other: Self) -> Self {
        Self {
            expected: self.expected + other.expected,
            missing: self.missing + other.missing,
            surplus: self.surplus + other.surplus,
        }
    }
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

/// The tag of a span's request.
fn tag(span: &Span) -> Option<Tag> {
    path(span).and_then(Tag::in_path)
}

/// The path of a span's request.
fn path(span: &Span) -> Option<&str> {
    if let Some(path) = span.attributes.text("url.path") {
        return Some(path);
    }
    let (_, rest) = span.attributes.text("url.full")?.split_once("://")?;
    let target = &rest[rest.find('/')?..];
    Some(target.split_once('?').map_or(target, |(path, _)| path))
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
