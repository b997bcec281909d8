//! Peers that do exactly what they are told, byte by byte: for what no real server does on demand.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::launcher::{Background, Launcher, Output};
use crate::layout;

/// What an end of a connection does next.
#[derive(Clone, Debug)]
pub struct Step {
    verb: &'static str,
    bytes: Vec<u8>,
}

fn step(verb: &'static str, bytes: impl AsRef<[u8]>) -> Step {
    Step { verb, bytes: bytes.as_ref().to_vec() }
}

/// Sends all of it.
pub fn send(bytes: impl AsRef<[u8]>) -> Step {
    step("send", bytes)
}

/// Sends it with one call a byte.
pub fn bytewise(bytes: impl AsRef<[u8]>) -> Step {
    step("bytewise", bytes)
}

/// Receives until this was seen; goes on after it next time.
pub fn until(mark: impl AsRef<[u8]>) -> Step {
    step("until", mark)
}

/// As [`until`], one byte a call.
pub fn sip(mark: impl AsRef<[u8]>) -> Step {
    step("sip", mark)
}

/// Receives until the end of the stream.
pub fn end() -> Step {
    step("end", "")
}

/// Receives until the connection is found to be reset.
pub fn broken() -> Step {
    step("broken", "")
}

/// Sends nothing more.
pub fn shutdown() -> Step {
    step("shutdown", "")
}

/// Resets the connection.
pub fn reset() -> Step {
    step("reset", "")
}

/// Prints a line, for [`Background::wait_for`].
pub fn say(line: &str) -> Step {
    step("say", line)
}

/// Waits until a file exists.
pub fn gate(path: &Path) -> Step {
    step("gate", path.to_string_lossy().as_bytes())
}

/// Prints `hanging` and does nothing more until it is killed.
pub fn hang() -> Step {
    step("hang", "")
}

/// A peer that listens, in the launcher's tree.
pub struct WireServer {
    /// The process.
    pub process: Background,
    /// Its port on loopback.
    pub port: u16,
}

/// Starts a peer that takes one connection.
pub fn serve(launcher: &mut Launcher, steps: &[Step]) -> Result<WireServer> {
    serve_at(launcher, 0, steps)
}

/// [`serve`] at a given port; zero stands for a free one.
pub fn serve_at(launcher: &mut Launcher, port: u16, steps: &[Step]) -> Result<WireServer> {
    let words = peer("serve", port, steps)?;
    let process = launcher.spawn(words)?;
    let port = process.wait_for("listening ")?.parse().context("not a port")?;
    Ok(WireServer { process, port })
}

/// Runs a peer that connects, to its end.
pub fn call(launcher: &mut Launcher, port: u16, steps: &[Step]) -> Result<Output> {
    launcher.run(peer("call", port, steps)?)?.success()
}

/// Starts a peer that connects.
pub fn start_call(launcher: &mut Launcher, port: u16, steps: &[Step]) -> Result<Background> {
    launcher.spawn(peer("call", port, steps)?)
}

/// Plays both ends to their ends.
pub fn play(launcher: &mut Launcher, server: &[Step], client: &[Step]) -> Result<()> {
    let server = serve(launcher, server)?;
    let called = call(launcher, server.port, client);
    let code = match &called {
        Ok(_) => launcher.wait(&server.process)?,
        Err(_) => 0,
    };
    called.with_context(|| format!("the server said: {}", server.process.output()))?;
    ensure!(code == 0, "the server failed: {}", server.process.output());
    Ok(())
}

fn peer(role: &str, port: u16, steps: &[Step]) -> Result<Vec<String>> {
    layout::python("wire.py", &[role, &port.to_string(), &script(steps)])
}

fn script(steps: &[Step]) -> String {
    let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    let steps: Vec<_> = steps.iter().map(|step| [step.verb.into(), text(&step.bytes)]).collect();
    steps.into_iter().map(serde_json::Value::from_iter).collect::<serde_json::Value>().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_do_as_told() {
        let mut launcher = Launcher::start().unwrap();
        let server = [sip("\r\n"), until("b"), send("x\u{e9}"), shutdown(), end()];
        play(&mut launcher, &server, &[bytewise("a\r\nb"), until("\u{e9}"), end()]).unwrap();
        play(&mut launcher, &[until("a"), reset()], &[send("a"), broken()]).unwrap();
    }

    #[test]
    fn a_peer_that_hears_something_else_fails() {
        let mut launcher = Launcher::start().unwrap();
        let error = play(&mut launcher, &[send("no")], &[until("yes")]).unwrap_err();
        assert!(format!("{error:#}").contains("end of stream before"), "{error:#}");
    }
}
