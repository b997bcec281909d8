use super::*;
use crate::proxy::heads;
use crate::trace::context::RemoteContext;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const LINE: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";

fn context() -> RemoteContext {
    crate::trace::context::extract(&[("traceparent".into(), PARENT.into())]).unwrap()
}

/// What passes of some bytes of the application's when every head gets the same context.
struct Rewriter {
    conversation: Conversation,
    offsets: Vec<u64>,
    passed: Vec<u8>,
    taken: usize,
}

impl Rewriter {
    fn new() -> Self {
        let conversation = Conversation::new();
        Self { conversation, offsets: Vec::new(), passed: Vec::new(), taken: 0 }
    }

    fn send(&mut self, input: &[u8]) {
        let mut rest = input;
        while !rest.is_empty() {
            let used = match self.conversation.from_application(rest, &mut self.passed) {
                Fed::Taken(used) => used,
                Fed::Pass(used) | Fed::Http2(used) => {
                    self.passed.extend(&rest[..used]);
                    used
                }
                Fed::Head(used) => {
                    let complete = self.conversation.complete();
                    self.offsets.push(complete.offset);
                    let fields = heads::fields_of(complete.withheld);
                    let fields = heads::context_fields(&context(), &fields, heads::B3::default());
                    heads::replace(complete.withheld, &fields, &mut self.passed);
                    self.conversation.settle();
                    used
                }
                Fed::Opaque(_) => {
                    self.passed.extend(rest);
                    rest.len()
                }
            };
            rest = &rest[used..];
        }
        self.taken += input.len();
    }

    fn passed(&self) -> &str {
        str::from_utf8(&self.passed).unwrap()
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GOT: &str = "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
const UPGRADE: &str = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[test]
fn every_head_gets_one_context_and_bodies_none() {
    let post =
        "POST /a HTTP/1.1\r\nTraceparent: x\r\nContent-Length: 27\r\ntracestate: a=b\r\n\r\n";
    let posted = format!("POST /a HTTP/1.1\r\nContent-Length: 27\r\n{LINE}\r\n");
    let chunked = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let sent_chunked = format!("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{LINE}\r\n");
    let body = format!("1b;x\r\n{GET}\r\n0\r\ntraceparent: y\r\n\r\n");
    let stream = format!("{GET}{post}{GET}\r\n\r\n{chunked}{body}{GET}");
    let expected = format!("{GOT}{posted}{GET}\r\n\r\n{sent_chunked}{body}{GOT}");
    assert_eq!(GET.len(), 27);
    let offsets = [0, GET.len(), GET.len() + post.len() + GET.len() + 4, stream.len() - GET.len()];
    for split in 0..=stream.len() {
        let mut rewriter = Rewriter::new();
        rewriter.send(&stream.as_bytes()[..split]);
        rewriter.send(&stream.as_bytes()[split..]);
        assert_eq!(rewriter.passed(), expected, "split at {split}");
        assert_eq!(rewriter.offsets, offsets.map(|offset| offset as u64));
        assert_eq!(rewriter.conversation.opaque(), None);
    }
}

#[test]
fn all_but_the_end_of_a_head_passes_at_once() {
    let mut rewriter = Rewriter::new();
    for (sent, passed) in [
        ("G", "G"),
        ("ET / HTTP/1.1\r", "GET / HTTP/1.1\r"),
        ("\nHo", "GET / HTTP/1.1\r\nHo"),
        ("st: a\r\nT", "GET / HTTP/1.1\r\nHost: a\r\n"),
        ("E: trailers\r", "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r"),
    ] {
        rewriter.send(sent.as_bytes());
        assert_eq!(rewriter.passed(), passed);
    }
}

#[test]
fn other_protocols_pass_from_their_first_byte() {
    for (start, reason) in [
        ("\x16\x03\x01", OpaqueReason::NotHttp),
        ("SSH-2.0-x\r\n", OpaqueReason::NotHttp),
        ("*1\r\n$4\r\nPING\r\n", OpaqueReason::NotHttp),
        ("get key\r\n", OpaqueReason::NotHttp),
        ("GET /\r\n", OpaqueReason::NotHttp),
        ("OPTIONS * RTSP/1.0\r\n", OpaqueReason::NotHttp),
        ("PRI * HTTP/2.1\r\n", OpaqueReason::NotHttp),
        ("\n", OpaqueReason::NotHttp),
    ] {
        let mut rewriter = Rewriter::new();
        for byte in start.bytes() {
            rewriter.send(&[byte]);
        }
        assert_eq!(rewriter.passed(), start);
        assert_eq!(rewriter.conversation.opaque(), Some(reason), "{start:?}");
    }
}

#[test]
fn a_server_that_speaks_first_is_not_http() {
    let mut rewriter = Rewriter::new();
    assert!(!rewriter.conversation.from_server(b"220 mail\r\n"));
    rewriter.send(GET.as_bytes());
    assert_eq!(rewriter.passed(), GET);
    assert_eq!(rewriter.conversation.opaque(), Some(OpaqueReason::ServerFirst));
}

#[test]
fn what_is_ambiguous_ends_the_injection_for_good() {
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(MAX_HEAD as usize));
    for (head, reason) in [
        ("GET / HTTP/1.1\r\nTraceparent: x\r\n folded\r\n\r\n", OpaqueReason::Folded),
        (
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            OpaqueReason::LengthAndCoding,
        ),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", OpaqueReason::TransferEncoding),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", OpaqueReason::TransferEncoding),
        (&long, OpaqueReason::TooLarge),
    ] {
        let stream = format!("{GET}{head}{GET}");
        for piece in [1, 7, stream.len()] {
            let mut rewriter = Rewriter::new();
            stream.as_bytes().chunks(piece).for_each(|piece| rewriter.send(piece));
            assert_eq!(rewriter.passed(), format!("{GOT}{head}{GET}"));
            assert_eq!(rewriter.conversation.opaque(), Some(reason));
        }
    }
}

#[test]
fn after_a_switch_of_protocols_everything_passes() {
    let mut rewriter = Rewriter::new();
    rewriter.send(UPGRADE.as_bytes());
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x01x";
    assert!(!rewriter.conversation.from_server(switch));
    rewriter.send(GET.as_bytes());
    assert!(rewriter.passed().ends_with(&format!("{LINE}\r\n{GET}")));
    assert_eq!(rewriter.conversation.opaque(), Some(OpaqueReason::Upgraded));

    let mut rewriter = Rewriter::new();
    rewriter.send(b"CONNECT a:1 HTTP/1.1\r\n\r\n");
    rewriter.send(GET.as_bytes());
    assert_eq!(rewriter.passed(), format!("CONNECT a:1 HTTP/1.1\r\n{LINE}\r\n{GET}"));
    assert_eq!(rewriter.conversation.opaque(), Some(OpaqueReason::Connect));
}

#[test]
fn http2_is_read_on_by_another_from_where_it_begins() {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let h2c = "GET / HTTP/1.1\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    for split in 1..preface.len() {
        for upgrade in [false, true] {
            let mut conversation = Conversation::new();
            let mut out = Vec::new();
            if upgrade {
                let Fed::Pass(line) = conversation.from_application(h2c.as_bytes(), &mut out)
                else {
                    panic!("no request line");
                };
                let head = conversation.from_application(&h2c.as_bytes()[line..], &mut out);
                assert_eq!(head, Fed::Head(h2c.len() - line));
                conversation.settle();
                let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n\0\0";
                assert!(!conversation.from_server(switch));
            }
            let (first, second) = preface.as_bytes().split_at(split);
            let mut rest = first;
            while !rest.is_empty() {
                let Fed::Pass(used) = conversation.from_application(rest, &mut out) else {
                    panic!("{split} bytes do not pass");
                };
                rest = &rest[used..];
            }
            let mut at = 0;
            let used = loop {
                match conversation.from_application(&second[at..], &mut out) {
                    Fed::Pass(used) => at += used,
                    Fed::Http2(used) => break at + used,
                    fed => panic!("{fed:?} at {split}"),
                }
            };
            assert_eq!(used, second.len());
            assert_eq!(conversation.opaque(), None);
        }
    }
}

#[test]
fn a_refused_switch_changes_nothing() {
    let mut rewriter = Rewriter::new();
    rewriter.send(UPGRADE.as_bytes());
    assert!(rewriter.conversation.from_server(OK));
    rewriter.send(GET.as_bytes());
    assert!(rewriter.passed().ends_with(GOT));
    assert_eq!(rewriter.conversation.opaque(), None);
}

#[test]
fn nobody_waits_for_a_switch_to_be_decided() {
    let mut rewriter = Rewriter::new();
    rewriter.send(UPGRADE.as_bytes());
    rewriter.send(GET.as_bytes());
    assert!(rewriter.passed().ends_with(&format!("{LINE}\r\n{GET}")));
    assert_eq!(rewriter.conversation.opaque(), Some(OpaqueReason::UpgradeUndecided));
}

#[test]
fn responses_that_cannot_be_followed_cost_switches_alone() {
    let mut rewriter = Rewriter::new();
    rewriter.send(GET.as_bytes());
    assert!(!rewriter.conversation.from_server(b"HTTP/1.1 200 OK\nfoo\n\n"));
    rewriter.send(GET.as_bytes());
    assert_eq!(rewriter.passed(), [GOT, GOT].concat());
    rewriter.send(UPGRADE.as_bytes());
    rewriter.send(GET.as_bytes());
    assert!(rewriter.passed().ends_with(&format!("{LINE}\r\n{GET}")));
    assert_eq!(rewriter.conversation.opaque(), Some(OpaqueReason::UpgradeUndecided));
}

#[test]
fn nothing_is_answered_after_a_response_without_end() {
    let mut rewriter = Rewriter::new();
    rewriter.send(GET.as_bytes());
    assert!(!rewriter.conversation.from_server(b"HTTP/1.1 200 OK\r\n\r\nraw"));
    rewriter.send(GET.as_bytes());
    assert_eq!(rewriter.passed(), [GOT, GET].concat());
    assert_eq!(rewriter.conversation.opaque(), Some(OpaqueReason::UntilClose));
}

#[test]
fn too_many_requests_under_way_end_the_injection() {
    let mut rewriter = Rewriter::new();
    let many = GET.repeat(2000);
    rewriter.send(many.as_bytes());
    assert_eq!(rewriter.conversation.opaque(), Some(OpaqueReason::Pipelined));
    assert_eq!(rewriter.passed().replace(LINE, ""), many);
}

#[test]
fn what_is_withheld_at_the_end_passes_then() {
    let mut rewriter = Rewriter::new();
    let half = "GET / HTTP/1.1\r\ntraceparent: x\r\nA: b\r";
    rewriter.send(half.as_bytes());
    assert_eq!(rewriter.passed(), "GET / HTTP/1.1\r\n");
    let Rewriter { mut conversation, mut passed, .. } = rewriter;
    conversation.finish_application(&mut passed);
    assert_eq!(passed, half.as_bytes());
}

#[test]
fn long_bodies_need_not_be_looked_at() {
    let mut rewriter = Rewriter::new();
    rewriter.send(b"PUT / HTTP/1.1\r\nContent-Length: 100\r\n\r\n0123456789");
    assert_eq!(rewriter.conversation.application_unread(), 89);
    rewriter.conversation.skip_application(89);
    assert_eq!(rewriter.conversation.application_unread(), 0);
    rewriter.send(b"x");
    let before = rewriter.offsets.clone();
    rewriter.send(GET.as_bytes());
    assert_eq!(rewriter.offsets[before.len()..], [39 + 100]);

    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789";
    assert!(rewriter.conversation.from_server(response));
    rewriter.conversation.skip_server(rewriter.conversation.server_unread());
    assert!(rewriter.conversation.from_server(&[b"x", OK].concat()));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Pieces of messages, well-formed and not, of which some make requests together.
    fn fragment() -> impl Strategy<Value = Vec<u8>> {
        let known = prop::sample::select(vec![
            "GET / HTTP/1.1\r\n",
            "POST /a HTTP/1.1\r\n",
            "CONNECT a:1 HTTP/1.1\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\r\n",
            "\r\n\r\n",
            "\n",
            "\r",
            " ",
            "Host: a\r\n",
            "Content-Length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Upgrade: h2c\r\n",
            "Trace: x\r\n",
            "X-B3-Other: y\r\n",
            "abc",
            "3\r\nabc\r\n",
            "0\r\n\r\n",
            "0\r\nA: b\r\n\r\n",
            "HTTP/1.1",
            ": ",
        ]);
        prop_oneof![
            8 => known.prop_map(|known| known.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..6),
            4 => Just(GET.into()),
            2 => Just(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec()),
        ]
    }

    fn sent_in_pieces(stream: &[u8], cuts: &[prop::sample::Index]) -> Rewriter {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let mut rewriter = Rewriter::new();
        cuts.windows(2).for_each(|cut| rewriter.send(&stream[cut[0]..cut[1]]));
        rewriter
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn only_lines_are_inserted_and_splits_make_no_difference(
            fragments in prop::collection::vec(fragment(), 0..24),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream = fragments.concat();
            let whole = sent_in_pieces(&stream, &[]);
            let pieces = sent_in_pieces(&stream, &cuts);
            prop_assert_eq!(&pieces.passed, &whole.passed);
            prop_assert_eq!(&pieces.offsets, &whole.offsets);
            prop_assert_eq!(pieces.conversation.opaque(), whole.conversation.opaque());

            let Rewriter { mut conversation, mut passed, offsets, .. } = pieces;
            conversation.finish_application(&mut passed);
            let text: String = passed.iter().map(|byte| char::from(*byte)).collect();
            let sent: String = stream.iter().map(|byte| char::from(*byte)).collect();
            prop_assert_eq!(text.matches(LINE).count(), offsets.len());
            prop_assert_eq!(text.replace(LINE, ""), sent);
        }
    }
}
