//! What the machine printed, and whether it is right.

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use tracer_tests::{Report, Span, Spans, Status};

use super::kernel::Kernel;

/// Checks everything the machine told; gives one line about it.
pub(crate) fn check(console: &str, kernel: Kernel) -> Result<String> {
    section(console, "end").context("the machine did not come to its end")?;
    let release = section(console, "kernel")?.trim();
    ensure!(release.starts_with(kernel.release_prefix()), "it booted {release}");

    let doctor: Json = serde_json::from_str(section(console, "doctor")?.trim())
        .context("`tracer doctor --json` printed something else")?;
    let chosen = doctor["backend"].as_str().map(str::to_lowercase);
    let preferred = kernel.backends()[0];
    ensure!(
        chosen.as_deref() == Some(preferred),
        "doctor chose {chosen:?}, not {preferred}; refused: {}",
        refusals(&doctor)
    );

    let propagation = &doctor["propagation"];
    ensure!(
        propagation["works"] == kernel.propagates(),
        "propagation is {propagation}, and should work: {}",
        kernel.propagates()
    );

    for backend in kernel.backends() {
        check_backend(console, backend, kernel.propagates())
            .with_context(|| format!("on the {backend} backend"))?;
    }
    let proxied = if kernel.propagates() { ", through the proxy" } else { "" };
    let backends = kernel.backends().join(" and by ");
    Ok(format!("{release}, one request traced by {backends}{proxied}"))
}

/// Which probes doctor could not attach, and why.
fn refusals(doctor: &Json) -> String {
    let probes = doctor["probes"].as_array().map_or(&[][..], Vec::as_slice);
    let reasons: Vec<&str> = probes.iter().filter_map(|probe| probe["refused"].as_str()).collect();
    match doctor["probe_failure"].as_str() {
        Some(failure) => failure.to_owned(),
        None => reasons.join("; "),
    }
}

fn check_backend(console: &str, backend: &str, propagates: bool) -> Result<()> {
    let log = section(console, &format!("log {backend}"))?;
    ensure!(log.contains("exit status 0"), "the agent failed:\n{log}");
    let report = Report::in_log(log)?;
    ensure!(report.json["backend"] == backend, "its report is {}", report.json);
    let accepted = report.json["propagation"]["accepted"].as_u64().unwrap_or_default();
    ensure!(accepted == u64::from(propagates), "its report is {}", report.json);
    ensure!(report.spans == 2 && report.lost() == 0, "its report is {}", report.json);

    let text = section(console, &format!("spans {backend}"))?;
    let spans = Spans::from_otlp_json_lines(text.trim_start())?;
    ensure!(spans.len() == 2, "expected two spans, got:\n{spans}");
    let (servers, clients) = (spans.servers(), spans.clients());
    let (server, client) = (servers.only()?, clients.only()?);
    ensure!(server.service() == "nginx", "the server is called {}", server.service());
    ensure!(client.service() == "curl", "the client is called {}", client.service());
    for span in [server, client] {
        check_text(span, "http.request.method", "GET")?;
        check_text(span, "network.protocol.version", "1.1")?;
        ensure!(span.http_status() == Some(200), "{span:?}");
        ensure!(span.status == Status::Unset, "{span:?}");
        ensure!(span.start < span.end, "{span:?}");
        ensure!(span.attributes.int("server.port") == Some(8080), "{span:?}");
    }
    check_text(server, "url.path", "/hello")?;
    check_text(server, "url.query", "q=1")?;
    check_text(client, "url.full", "http://127.0.0.1:8080/hello?q=1")
}

fn check_text(span: &Span, name: &str, expected: &str) -> Result<()> {
    ensure!(
        span.attributes.text(name) == Some(expected),
        "{name} is {:?}, not {expected:?}",
        span.attribute(name)
    );
    Ok(())
}

/// What stands between a marker and the next one.
fn section<'a>(console: &'a str, name: &str) -> Result<&'a str> {
    let marker = format!("=== tracer: {name} ===\n");
    let (_, rest) = console.split_once(&marker).with_context(|| format!("no section {name:?}"))?;
    Ok(rest.split_once("\n=== tracer: ").map_or(rest, |(content, _)| content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_end_at_the_next_marker() {
        let console = "boot\n\n=== tracer: kernel ===\n6.1.0\n\n=== tracer: end ===\noff\n";
        assert_eq!(section(console, "kernel").unwrap().trim(), "6.1.0");
        assert_eq!(section(console, "end").unwrap(), "off\n");
        section(console, "doctor").unwrap_err();
    }

    #[test]
    fn a_machine_that_never_ended_fails() {
        check("=== tracer: kernel ===\n6.1.0\n", Kernel::V6_1).unwrap_err();
    }
}
