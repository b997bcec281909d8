//! An OTLP receiver that answers as a test wants it to, over gRPC and HTTP.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::layout;
use crate::port;
use crate::process::Process;

/// A running receiver.
pub struct FaultyReceiver {
    process: Process,
    grpc: u16,
    http: u16,
    record: PathBuf,
    _directory: TempDir,
}

/// An attempt to deliver something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// `grpc`, `protobuf` or `json`.
    pub encoding: String,
    /// Which row of the script it met; `None` after the last one.
    pub row: Option<usize>,
    /// 1 for the first one with these spans.
    pub number: usize,
    /// Ids of the spans that were taken for good.
    pub taken: Vec<String>,
}

impl FaultyReceiver {
    /// Starts one that answers by this script, which `programs/faulty_receiver.py` explains.
    pub fn start(script: &Json) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tracer-receiver-").tempdir()?;
        let path = |name: &str| directory.path().join(name);
        fs::write(path("script"), script.to_string())?;
        let (grpc, http) = (port::free()?, port::free()?);
        let mut command = Command::new(layout::python_program("python3")?);
        command
            .arg(layout::workspace().join("tests/programs/faulty_receiver.py"))
            .args([grpc.to_string(), http.to_string()])
            .args([path("script"), path("record")]);
        let mut process = Process::start("the receiver", &command, &path("log"))?;
        process.wait_until("the receiver to listen", |_| {
            Ok(port::is_open(port::loopback(http)).then_some(()))
        })?;
        Ok(Self { process, grpc, http, record: path("record"), _directory: directory })
    }

    /// Endpoint for OTLP over gRPC.
    pub fn grpc_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// Base endpoint for OTLP over HTTP, in protobuf or JSON.
    pub fn http_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// All attempts so far, in order.
    pub fn attempts(&mut self) -> Result<Vec<Attempt>> {
        self.process.check_running()?;
        let record = fs::read_to_string(&self.record)?;
        // A line that is being written is read next time.
        let whole = record.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole.lines().map(attempt).collect()
    }
}

fn attempt(line: &str) -> Result<Attempt> {
    let json: Json = serde_json::from_str(line)?;
    let number = |name: &str| json[name].as_u64().and_then(|number| usize::try_from(number).ok());
    let taken = json["taken"].as_array().context("no spans")?;
    Ok(Attempt {
        encoding: json["encoding"].as_str().context("no encoding")?.to_owned(),
        row: number("row"),
        number: number("attempt").context("no attempt")?,
        taken: taken.iter().filter_map(Json::as_str).map(str::to_owned).collect(),
    })
}
