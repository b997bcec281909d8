//! `tracer record` and `tracer replay`: a replay gives the spans of the live run, ids aside.
//!
//! Recordings under `tests/recordings/` are regression tests: each must go on giving the spans that
//! stand beside it. To make one anew, with this test's traffic, and its spans:
//!
//! ```text
//! sudo TRACER_RECORD=1 cargo test -p tracer-tests --test recording -- kept
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use tracer_tests::message::{self, HEAD, ok};
use tracer_tests::service::Nginx;
use tracer_tests::wire::{broken, end, play, reset, send, sip, until};
use tracer_tests::{
    AgentOptions, Backend, Kind, Launcher, Report, Service, Span, Spans, layout, on_each_backend,
};

fn replay(recording: &Path, spans: &Path) -> Result<Output> {
    let mut command = Command::new(layout::agent()?);
    command.arg("replay").arg(recording);
    command.arg("--exporter").arg(format!("file:{}", spans.display()));
    command.output().context("cannot replay")
}

fn replayed(recording: &Path) -> Result<Spans> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("spans.jsonl");
    let output = replay(recording, &file)?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{log}");
    let spans = read(&file)?;
    assert_eq!(Report::in_log(&log)?.spans, spans.len() as u64, "{log}");
    Ok(spans)
}

/// OTLP: the parent came with the request.
const REMOTE: u32 = 0x300;

fn read(file: &Path) -> Result<Spans> {
    let mut spans = Vec::new();
    Spans::each_in_file(file, |span| {
        spans.push(span);
        Ok(())
    })?;
    Ok(spans.into_iter().collect())
}

/// Spans without their ids, which are random, in a fixed order. A trace id that came with the
/// request stays.
fn comparable(spans: &Spans) -> Vec<Span> {
    let mut spans: Vec<Span> = spans.iter().cloned().collect();
    for span in &mut spans {
        span.span_id.clear();
        let parent_is_remote = span.flags & REMOTE == REMOTE;
        if !parent_is_remote {
            span.trace_id.clear();
            if let Some(parent) = &mut span.parent_span_id {
                parent.clear();
            }
        }
    }
    spans.sort_by_key(|span| (span.start, span.end, span.kind == Kind::Client));
    spans
}

/// As [`comparable`], without what differs between two agents that watch the same: the moment is
/// taken by each for itself.
fn timeless(spans: &Spans) -> Vec<String> {
    let mut lines: Vec<String> = comparable(spans)
        .into_iter()
        .map(|mut span| {
            (span.start, span.end) = (0, 0);
            // What a process that was gone could still be asked depends on who asked first.
            span.resource.0.retain(|name, _| {
                matches!(&**name, "service.name" | "process.pid" | "service.instance.id")
            });
            format!("{span:?}")
        })
        .collect();
    lines.sort();
    lines
}

/// A bit of everything: real programs, a failure, a split head, a trace context, a body too long
/// to be copied.
fn traffic(launcher: &mut Launcher, nginx_url: &str) -> Result<usize> {
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let url = format!("{nginx_url}/hello/[1-5]?sig=secret");
    launcher.run(["curl", "-sS", &url])?.success()?;
    launcher.run(["curl", "-sS", "-H", parent, &format!("{nginx_url}/traced")])?.success()?;
    launcher.run(["curl", "-sS", "-o", "/dev/null", &format!("{nginx_url}/big")])?.success()?;
    let get = |path| message::get(path, "wire.test");
    play(launcher, &[sip(HEAD), send(ok("ok")), end()], &[send(get("/split")), until("ok")])?;
    play(launcher, &[until(HEAD), reset()], &[send(get("/reset")), broken()])?;
    // nginx 7 and curl 6, since whoever makes a context reports the call itself; both ends of two.
    Ok(7 + 6 + 2 * 2)
}

fn nginx() -> Result<Service> {
    let nginx =
        Nginx::new("location /hello { return 200 'hi'; } location /traced { return 204; }")?;
    nginx.file("big", &vec![b'x'; 100_000])?.start()
}

fn record(backend: Backend, recording: &Path) -> Result<(Spans, Report)> {
    let nginx = nginx()?;
    let mut launcher = Launcher::start()?;
    let targets = |backend| AgentOptions::new(backend).pid(launcher.pid()).pid(nginx.pid());
    let recorder = targets(backend).record(recording).start()?;
    let live = targets(backend).start()?;
    let expected = traffic(&mut launcher, &nginx.url(""))?;
    let live = live.stop_after(expected)?;
    let recorded = recorder.stop()?;
    assert_eq!(recorded.report.spans, expected as u64, "{}", recorded.report.json);
    recorded.report.assert_nothing_lost();
    Ok((live.spans, recorded.report))
}

#[test]
fn a_replay_gives_the_spans_of_the_run() -> Result<()> {
    on_each_backend(|backend| {
        let directory = tempfile::tempdir()?;
        let recording = directory.path().join("recording");
        let (live, recorded) = record(backend, &recording)?;
        let first = replayed(&recording)?;
        assert_eq!(first.len() as u64, recorded.spans);
        assert_eq!(comparable(&first), comparable(&replayed(&recording)?));
        assert_eq!(timeless(&first), timeless(&live));
        let ids = |spans: &Spans| spans.iter().map(|span| span.span_id.clone()).collect::<Vec<_>>();
        assert_ne!(ids(&first), ids(&replayed(&recording)?), "ids are made anew");
        Ok(())
    })
}

/// Protects: a recording holds traffic in the clear: only its owner reads it, and none is lost to
/// the next.
#[test]
fn a_recording_is_private_and_never_overwritten() -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir()?;
    let recording = directory.path().join("recording");
    let launcher = Launcher::start()?;
    let options = AgentOptions::new(Backend::Auto).pid(launcher.pid());
    options.clone().record(&recording).start()?.stop()?;
    assert_eq!(fs::metadata(&recording)?.permissions().mode() & 0o777, 0o600);
    let before = fs::read(&recording)?;
    let Err(error) = options.record(&recording).start() else {
        anyhow::bail!("a recording was overwritten");
    };
    assert!(format!("{error:#}").contains("cannot create"), "{error:#}");
    assert_eq!(fs::read(&recording)?, before);
    Ok(())
}

#[test]
fn a_cut_recording_gives_all_that_came_before() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (recording, cut) = (directory.path().join("recording"), directory.path().join("cut"));
    record(Backend::Auto, &recording)?;
    let whole = replayed(&recording)?;
    let bytes = fs::read(&recording)?;
    let mut counts = Vec::new();
    for share in [10, 40, 70, 95] {
        fs::write(&cut, &bytes[..bytes.len() * share / 100])?;
        let file = directory.path().join(format!("spans-{share}"));
        let output = replay(&cut, &file)?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(log.contains("ends in the middle of the frame at byte"), "{log}");
        assert!(log.contains("everything before was replayed"), "{log}");
        let spans = if file.exists() { read(&file)? } else { Spans::default() };
        assert_eq!(Report::in_log(&log)?.spans, spans.len() as u64, "{log}");
        let all = comparable(&whole);
        for span in comparable(&spans) {
            assert!(all.contains(&span), "not a span of the whole: {span:?}");
        }
        counts.push(spans.len());
    }
    assert!(counts.is_sorted() && counts[3] > counts[0], "{counts:?}");
    Ok(())
}

#[test]
fn what_is_no_recording_is_refused() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("file");
    fs::write(&file, "GET / HTTP/1.1\r\n\r\n")?;
    let output = replay(&file, &directory.path().join("spans"))?;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("not a recording"), "{error}");
    Ok(())
}

fn kept(name: &str) -> PathBuf {
    layout::workspace().join("tests/recordings").join(name)
}

#[test]
fn kept_recordings_give_their_kept_spans() -> Result<()> {
    on_each_backend(|backend| {
        let recording = kept(&format!("{backend}.recording"));
        let expected = kept(&format!("{backend}.jsonl"));
        if std::env::var_os("TRACER_RECORD").is_some() {
            for file in [&recording, &expected] {
                let _ = fs::remove_file(file);
            }
            record(backend, &recording)?;
            ensure!(replay(&recording, &expected)?.status.success(), "cannot replay");
        }
        let (spans, expected) = (replayed(&recording)?, read(&expected)?);
        assert!(expected.len() > 10, "{}", recording.display());
        assert_eq!(comparable(&spans), comparable(&expected), "{}", recording.display());
        Ok(())
    })
}
