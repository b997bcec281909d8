//! Recorded observations: `*.csv.gz` files of one row a request or call.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use tracer::event::KernelTime;
use tracer::link::timing::{Operation, Service};

use crate::recording::{Interval, Recording};

const HEADER: &str =
    "service,direction,operation,peer_service,start_us,end_us,span_id,parent_span_id";

/// The recordings in a folder, by name.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}; name a folder with --data", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".csv.gz") {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "{} holds no .csv.gz file", folder.display());
    Ok(files)
}

/// Reads one recording.
pub(crate) fn read(path: &Path) -> Result<Recording> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut lines = BufReader::new(MultiGzDecoder::new(file)).lines();
    let header = lines.next().transpose()?.unwrap_or_default();
    ensure!(header.trim_end() == HEADER, "{}: the first line is not {HEADER}", path.display());

    let mut requests = Vec::new();
    let mut by_span: HashMap<(String, String), usize> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in lines.enumerate() {
        let line = line?;
        let fields: Vec<&str> = line.trim_end().split(',').collect();
        let at = || format!("{} line {}", path.display(), number + 2);
        let [service, direction, operation, peer, start, end, span, parent] = fields[..] else {
            bail!("{}: {} fields instead of 8", at(), fields.len());
        };
        let interval = Interval {
            service: service_key(service),
            operation: Operation::named(operation, peer),
            start: microseconds(start).with_context(at)?,
            end: microseconds(end).with_context(at)?,
        };
        match direction {
            "in" => {
                by_span.insert((service.to_owned(), span.to_owned()), requests.len());
                requests.push(interval);
            }
            "out" => calls.push((interval, (service.to_owned(), parent.to_owned()))),
            other => bail!("{}: direction {other:?} is neither in nor out", at()),
        }
    }
    let calls =
        calls.into_iter().map(|(interval, parent)| (interval, by_span.get(&parent).copied()));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(".csv.gz").to_owned();
    Ok(Recording::new(name, &requests, calls.collect()))
}

fn microseconds(text: &str) -> Result<KernelTime> {
    let micros: u64 = text.parse().with_context(|| format!("{text:?} is not a time"))?;
    Ok(KernelTime(micros.saturating_mul(1_000)))
}

fn service_key(name: &str) -> Service {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    Service(hasher.finish())
}
