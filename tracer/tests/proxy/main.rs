//! Raw streams sent directly and through the forwarder, over real sockets and split at random
//! places: what arrives differs in the inserted lines alone, and both ends see the same closes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod heads;
mod http2;
mod responses;
mod streams;
mod wire;

use std::collections::HashSet;

use streams::Stream;
use wire::{Close, Contexts, Run};

/// Connections at a time.
const AT_ONCE: usize = 24;

/// All streams of requests.
fn request_streams() -> Vec<Stream> {
    let streams: Vec<_> = [
        streams::valid(),
        streams::ambiguous_heads(),
        streams::ambiguous_bodies(),
        streams::other_protocols(),
        streams::tunnels(),
        streams::broken_off(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let names: HashSet<_> = streams.iter().map(|stream| &stream.name).collect();
    assert_eq!(names.len(), streams.len(), "two streams have one name");
    streams
}

#[test]
fn there_are_enough_streams() {
    let contents: HashSet<_> = request_streams().into_iter().map(|stream| stream.bytes).collect();
    let answers = responses::all().len();
    let heads = heads::all().len();
    println!("{} streams of requests, {answers} of responses, {heads} heads", contents.len());
    assert!(contents.len() >= 400);
    assert!(answers >= 60);
}

#[tokio::test]
async fn requests_arrive_as_sent_but_for_the_inserted_lines() {
    let runs = request_streams().into_iter().flat_map(|stream| {
        let closes = if stream.is_complete { &Close::ALL[..] } else { &[Close::ClientEnds][..] };
        closes.iter().map(move |close| (stream.clone(), *close)).collect::<Vec<_>>()
    });
    wire::at_once(AT_ONCE, runs, |(stream, close)| async move {
        let Stream { name, bytes, injected, .. } = stream;
        let name = format!("{name}, {close:?}");
        let direct = wire::run(Run::direct(&name, &bytes, close)).await;
        let seed = Run::proxied(&name, &bytes, injected, close, Contexts::Fixed);
        let proxied = wire::run(seed).await;
        let (rest, lines) = wire::without_inserted(&proxied.at_server);
        assert_eq!(lines, injected, "{name}: {}", proxied.at_server.escape_ascii());
        assert_eq!(rest.escape_ascii().to_string(), bytes.escape_ascii().to_string(), "{name}");
        assert_eq!(direct.at_server, bytes, "{name}");
        assert_eq!(proxied.at_client, direct.at_client, "{name}");
        assert_eq!(proxied.ends, direct.ends, "{name}");
    })
    .await;
}

#[tokio::test]
async fn responses_arrive_as_sent_and_decide_about_what_follows() {
    wire::at_once(AT_ONCE, responses::all(), |case| async move {
        let arrived = wire::converse(&case.requests, &case.response, responses::PROBE).await;
        let name = &case.name;
        assert_eq!(arrived.at_client, case.response, "{name}");
        let (rest, lines) = wire::without_inserted(&arrived.at_server);
        assert_eq!(rest, [&case.requests, responses::PROBE].concat(), "{name}");
        assert_eq!(lines, case.injected, "{name}");
    })
    .await;
}

#[tokio::test]
async fn heads_with_contexts_end_up_with_one() {
    wire::at_once(AT_ONCE, heads::all(), |case| async move {
        let name = &case.name;
        let run = Run::proxied(name, &case.head, 0, Close::ClientEnds, Contexts::NewRoots);
        let arrived = wire::run(run).await.at_server;
        case.check(&arrived);
    })
    .await;
}
