//! A process that is killed with SIGKILL while it writes and delivers.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

const DIRECTORY: &str = "TRACER_TEST_CRASHING_SPOOL";
/// Lines after which the child is killed.
const ENOUGH: usize = 300;

/// The child: appends and delivers, and says so after each, until it is killed.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let mut spool = open(Path::new(&directory), ROOMY);
    for number in 0_u64.. {
        spool.append(&number.to_le_bytes(), 1).outcome.unwrap();
        println!("\nput {number}");
        if number % 3 == 2 {
            let record = spool.next().unwrap().record.unwrap();
            let delivered = u64::from_le_bytes(record.body[..].try_into().unwrap());
            println!("\nsent {delivered}");
            spool.acknowledge(&record).unwrap();
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_at_most_one_request_is_sent_twice() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "export::spool::tests::crash::child"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said: Vec<String> = lines.by_ref().take(ENOUGH).collect();
    child.kill().unwrap();
    // What it said until the signal arrived counts as well.
    said.extend(lines);
    child.wait().unwrap();
    let numbers = |word: &str| -> Vec<u64> {
        let numbers = said.iter().filter_map(|line| line.strip_prefix(word)?.parse().ok());
        numbers.collect()
    };
    let (put, sent) = (numbers("put "), numbers("sent "));
    assert!(put.len() > 10 && sent.len() > 3, "{said:?}");

    let mut spool = open(directory.path(), ROOMY);
    let left: Vec<u64> = std::iter::from_fn(|| {
        let record = spool.next().unwrap().record?;
        spool.acknowledge(&record).unwrap();
        Some(u64::from_le_bytes(record.body[..].try_into().unwrap()))
    })
    .collect();
    let first = *left.first().unwrap();
    assert_eq!(left, (first..first + left.len() as u64).collect::<Vec<_>>(), "no gap");
    let last_put = put.last().unwrap();
    assert!(left.last().unwrap() >= last_put, "{last_put} was acknowledged: {left:?}");
    let last_sent = *sent.last().unwrap();
    assert!(first <= last_sent + 1, "{first} follows {last_sent}: requests were lost");
    assert!(first >= last_sent, "{first} after {last_sent}: more than one is sent twice");
}
