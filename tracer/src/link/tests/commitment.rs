//! Places that are needed before everything is known.

use super::*;

impl Story {
    fn commit(&mut self, call: ExchangeId) -> Option<Committed> {
        self.linker.commit(call, &mut self.ids, &mut self.placed)
    }

    fn commit_to(&mut self, call: ExchangeId, context: &SpanContext) -> bool {
        self.linker.commit_to(call, context.clone(), &mut self.ids, &mut self.placed)
    }

    /// Two requests that are open at once, read by two threads of a process without any habits.
    fn unclear(&mut self) -> ExchangeId {
        self.request(1, by(1, 1, 0));
        self.request(2, by(1, 2, 0));
        self.call(3, by(1, 3, 0))
    }
}

fn ours(committed: Option<Committed>) -> Arc<SpanContext> {
    match committed {
        Some(Committed::Ours(context)) => context,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_has_the_place_that_went_on_the_wire() {
    let mut story = Story::new();
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ends = ("10.0.0.1:80", "10.9.9.9:1234");
    let headers = [("traceparent", header)];
    let request = story.began(1, by(1, 1, 0), Role::Server, 1, ends, &headers);
    let call = story.call(2, by(1, 1, 0));
    // The request's other end, which would be known within the window, is not waited for.
    let context = ours(story.commit(call));
    assert_eq!(context, ours(story.commit(call)));
    story.end(call, by(1, 1, 0), Role::Client, "call");
    story.end(request, by(1, 1, 0), Role::Server, "request");
    let spans = story.finish();
    assert_eq!(*spans["call"].place, *context);
    assert!(is_child(&spans, "call", "request"));
    assert_eq!(spans["request"].place.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
}

#[test]
fn a_call_of_unknown_origin_is_a_root_from_then_on() {
    let mut story = Story::new();
    let call = story.unclear();
    let context = ours(story.commit(call));
    story.end(call, by(1, 3, 0), Role::Client, "call");
    assert_eq!(story.linker.counters().committed_unlinked, 1);
    let spans = story.finish();
    assert_eq!(*spans["call"].place, *context);
    assert_eq!(context.parent, None);
}

#[test]
fn the_call_of_an_sdk_is_the_sdks() {
    let mut story = Story::new();
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let ends = ("10.0.0.1:999", "10.7.7.7:80");
    let call = story.began(1, by(1, 1, 0), Role::Client, 1, ends, &[("traceparent", header)]);
    assert_eq!(story.commit(call), Some(Committed::Theirs));
}

#[test]
fn a_call_that_is_seen_late_is_the_span_that_went_on_the_wire() {
    let mut story = Story::new();
    let context = IdSource::seeded(9).root();
    let call = ExchangeId { conn: ConnId(3), offset: StreamOffset(3) };
    assert_eq!(story.commit(call), None);
    assert!(story.commit_to(call, &context));
    assert_eq!(story.unclear(), call);
    assert_eq!(*ours(story.commit(call)), context);
    story.end(call, by(1, 3, 0), Role::Client, "call");
    let spans = story.finish();
    assert_eq!(*spans["call"].place, context);
}

#[test]
fn a_call_that_is_seen_but_not_told_in_time_is_the_span_that_went_on_the_wire() {
    let mut story = Story::new();
    let request = story.request(1, by(1, 1, 0));
    let context = IdSource::seeded(9).root();
    // It waits for its parent's place.
    let call = story.call(3, by(1, 1, 0));
    assert!(story.commit_to(call, &context));
    story.end(call, by(1, 1, 0), Role::Client, "call");
    story.end(request, by(1, 1, 0), Role::Server, "request");
    let spans = story.finish();
    assert_eq!(*spans["call"].place, context);
    assert_eq!(spans["call"].origin, Origin::Root);
}

#[test]
fn what_was_exported_or_told_before_is_not_changed() {
    let mut story = Story::new();
    let call = story.unclear();
    let told = ours(story.commit(call));
    let other = IdSource::seeded(9).root();
    assert!(!story.commit_to(call, &other));
    story.end(call, by(1, 3, 0), Role::Client, "call");
    assert!(!story.commit_to(call, &other), "it is over");
    let spans = story.finish();
    assert_eq!(*spans["call"].place, *told);
}

/// Protects: the bound on contexts of calls that are never seen.
#[test]
fn contexts_of_calls_that_are_never_seen_are_bounded() {
    let mut story = Story::new();
    let context = IdSource::seeded(9).root();
    let call = |conn| ExchangeId { conn: ConnId(conn), offset: StreamOffset(1) };
    let mut kept = 0;
    for conn in 0..100_000 {
        kept += usize::from(story.commit_to(call(conn), &context));
    }
    assert!(kept < 100_000);
    for conn in 0..100_000 {
        story.linker.on_closed(ConnId(conn));
    }
    assert!(story.commit_to(call(1), &context));
}

#[test]
fn what_goes_on_the_wire_is_sampled_as_its_trace_is() {
    for (sampler, below, flags) in [
        (Sampler::OFF.parent_based(), Sampler::default(), 0b10),
        (Sampler::default(), Sampler::OFF.parent_based(), 0b11),
        (Sampler::default(), Sampler::OFF, 0b10),
        (Sampler::ratio(1.0).parent_based(), Sampler::default(), 0b11),
    ] {
        let mut story = Story::new();
        story.sampler = sampler;
        let request = story.request(1, by(1, 1, 0));
        story.sampler = below;
        let call = story.call(2, by(1, 1, 0));
        let context = ours(story.commit(call));
        assert_eq!(context.flags.0, flags, "{sampler:?}, {below:?}");
        story.end(call, by(1, 1, 0), Role::Client, "call");
        story.end(request, by(1, 1, 0), Role::Server, "request");
        let spans = story.finish();
        assert!(is_child(&spans, "call", "request"));
        assert_eq!(spans["call"].place, context, "decided once");
        let request = &spans["request"].place;
        assert_eq!(request.state, context.state, "the threshold goes with it");
    }
}
