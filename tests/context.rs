//! Trace context on live requests. The tables of the specifications are unit tests; here it is
//! shown that headers reach them.

use anyhow::Result;
use tracer_tests::service::{Gunicorn, Nginx};
use tracer_tests::{AgentOptions, Launcher, on_each_backend};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// OTLP: it is known whether the parent is remote, and it is.
const REMOTE: u32 = 0x300;
/// OTLP: it is known whether the parent is remote, and there is none.
const LOCAL: u32 = 0x100;

/// Protects: a request with a valid context continues that trace below the sender's span.
#[test]
fn inbound_context_is_the_remote_parent() -> Result<()> {
    on_each_backend(|backend| {
        let w3c = |flags: &str| format!("traceparent: 00-{TRACE}-{PARENT}-{flags}");
        let short_trace = "8448eb211c80319c";
        let long = |trace: &str| trace.to_owned();
        let rows: [(&[&str], String, u32, &str); 7] = [
            (&[&w3c("01")], long(TRACE), 1, ""),
            (&[&w3c("03"), "tracestate: a=1,b@c=2"], long(TRACE), 3, "a=1,b@c=2"),
            (&[&w3c("01"), "tracestate: a=1", "tracestate: b=2"], long(TRACE), 1, "a=1,b=2"),
            // Names in any case, unknown flags cleared.
            (&[&w3c("05").replace("traceparent", "TraceParent")], long(TRACE), 1, ""),
            // A version to come, with more fields.
            (&[&format!("traceparent: cc-{TRACE}-{PARENT}-01-what")], long(TRACE), 1, ""),
            (&[&format!("b3: {TRACE}-{PARENT}-1")], long(TRACE), 1, ""),
            (
                &[
                    &format!("X-B3-TraceId: {short_trace}"),
                    &format!("X-B3-SpanId: {PARENT}"),
                    "X-B3-Sampled: 1",
                ],
                format!("{short_trace:0>32}"),
                1,
                "",
            ),
        ];
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(nginx.pid()).start()?;
        for (headers, ..) in &rows {
            launcher.curl(arguments(headers, &nginx.url("/hello")))?;
        }
        let spans = agent.finish(rows.len())?;
        for (span, (headers, trace, flags, state)) in spans.iter().zip(rows) {
            assert_eq!(span.trace_id, trace, "{headers:?}");
            assert_eq!(span.parent_span_id.as_deref(), Some(PARENT), "{headers:?}");
            assert_eq!(span.flags, flags | REMOTE, "{headers:?}");
            assert_eq!(span.trace_state, state, "{headers:?}");
            assert_ne!(span.span_id, PARENT, "the parent's id is not ours");
        }
        Ok(())
    })
}

/// Protects: a request with a broken context starts a trace of its own, with nothing of it kept.
#[test]
fn invalid_context_is_no_context() -> Result<()> {
    on_each_backend(|backend| {
        let valid = format!("traceparent: 00-{TRACE}-{PARENT}-01");
        let upper = valid.replace(TRACE, &TRACE.to_uppercase());
        let zeros = valid.replace(PARENT, "0000000000000000");
        let forbidden = valid.replace("00-0af", "ff-0af");
        let longer = format!("{valid}-00");
        let half = format!("X-B3-TraceId: {TRACE}");
        let rows: [&[&str]; 8] = [
            &[],
            &[&upper, "tracestate: a=1"],
            &[&zeros],
            &[&forbidden],
            &[&longer],
            &[&valid, &valid],
            &["tracestate: a=1"],
            &[&half],
        ];
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend).pid(nginx.pid()).start()?;
        for headers in rows {
            launcher.curl(arguments(headers, &nginx.url("/hello")))?;
        }
        let spans = agent.finish(rows.len())?;
        for (span, headers) in spans.iter().zip(rows) {
            assert_ne!(span.trace_id, TRACE, "{headers:?}");
            assert_eq!(span.parent_span_id, None, "{headers:?}");
            // Sampled, and random.
            assert_eq!(span.flags, 3 | LOCAL, "{headers:?}");
            assert_eq!(span.trace_state, "", "{headers:?}");
            assert_eq!(spans.of_trace(&span.trace_id).len(), 1, "a trace of its own");
        }
        Ok(())
    })
}

/// Protects: a service that passes the context on unchanged, as uninstrumented ones do, keeps its
/// callees in the trace.
#[test]
fn a_service_that_forwards_its_context() -> Result<()> {
    on_each_backend(|backend| {
        let nginx = Nginx::new("")?.file("hello", b"hello\n")?.start()?;
        let flask = Gunicorn::default().start()?;
        let front = Nginx::proxy(&format!("http://{}", flask.address()))?.start()?;
        let mut launcher = Launcher::start()?;
        let agent = AgentOptions::new(backend)
            .pid(front.pid())
            .pid(flask.pid())
            .pid(nginx.pid())
            .start()?;
        let url = front.url(&format!("/call?url={}", nginx.url("/hello")));
        let header = format!("traceparent: 00-{TRACE}-{PARENT}-01");
        launcher.curl(arguments(&[&header, "tracestate: a=1"], &url))?;
        launcher.curl([&url])?;
        let spans = agent.finish(10)?;
        let trace = spans.of_trace(TRACE);
        assert_eq!((trace.len(), trace.servers().len()), (5, 3), "{spans}");
        for span in trace.iter() {
            assert_eq!(span.trace_state, "a=1");
        }
        let first = trace.servers().with("server.port", i64::from(front.port()));
        assert_eq!(first.only()?.parent_span_id.as_deref(), Some(PARENT));
        Ok(())
    })
}

fn arguments(headers: &[&str], url: &str) -> Vec<String> {
    let headers = headers.iter().flat_map(|header| ["--header".to_owned(), (*header).to_owned()]);
    headers.chain([url.to_owned()]).collect()
}
