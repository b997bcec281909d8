//! Whatever an application and a server send, in whatever pieces: what is kept passes unchanged, and
//! what is inserted is whole lines, the same ones however the bytes are split.
//!
//! The input's first byte says how long the pieces are, the second how long the server's bytes are,
//! which come after that many pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::proxy::Fed;
use tracer::proxy::heads::{self, B3};
use tracer::proxy::http1::Conversation;
use tracer::trace::context::{RemoteContext, extract};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const INSERTED: &[u8] = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
/// Bytes of a head, and of what is read at once.
const MOST_WITHHELD: usize = 128 * 1024;

fuzz_target!(|input: &[u8]| {
    let [piece, answer, rest @ ..] = input else { return };
    let (answer, requests) = rest.split_at(usize::from(*answer).min(rest.len()));
    let piece = usize::from(*piece) + 1;

    let kept = run(requests, answer, piece, None);
    assert!(kept.0 == requests, "what is kept was changed");

    let (split, injected) = run(requests, answer, piece, Some(&context()));
    if !requests.windows(INSERTED.len()).any(|window| window == INSERTED) {
        assert_eq!(count(&split), injected, "a line too many or too few");
    }
    if answer.is_empty() {
        let (whole, _) = run(requests, answer, requests.len().max(1), Some(&context()));
        assert!(split == whole, "the pieces make a difference");
    }
});

fn run(
    requests: &[u8],
    answer: &[u8],
    piece: usize,
    context: Option<&RemoteContext>,
) -> (Vec<u8>, usize) {
    let mut conversation = Conversation::new();
    let (mut passed, mut injected, mut sent) = (Vec::new(), 0, 0);
    for (number, piece) in requests.chunks(piece).enumerate() {
        if number == answer.len() {
            conversation.from_server(answer);
        }
        sent += piece.len();
        let mut rest = piece;
        while !rest.is_empty() {
            let used = match conversation.from_application(rest, &mut passed) {
                Fed::Taken(used) => used,
                Fed::Pass(used) | Fed::Http2(used) => {
                    passed.extend(&rest[..used]);
                    used
                }
                Fed::Head(used) => {
                    let withheld = conversation.complete().withheld;
                    match context {
                        None => passed.extend(withheld),
                        Some(context) => {
                            let fields = heads::fields_of(withheld);
                            let fields = heads::context_fields(context, &fields, B3::default());
                            heads::replace(withheld, &fields, &mut passed);
                            injected += 1;
                        }
                    }
                    conversation.settle();
                    used
                }
                Fed::Opaque(_) => {
                    passed.extend(rest);
                    rest.len()
                }
            };
            rest = &rest[used..];
        }
        assert!(passed.len() + MOST_WITHHELD >= sent, "too much is withheld");
    }
    conversation.finish_application(&mut passed);
    (passed, injected)
}

fn context() -> RemoteContext {
    extract(&[("traceparent".into(), PARENT.into())]).expect("it is valid")
}

fn count(passed: &[u8]) -> usize {
    passed.windows(INSERTED.len()).filter(|window| *window == INSERTED).count()
}
