mod crash;
mod full_disk;

use std::collections::VecDeque;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const ROOMY: u64 = 64 * 1024 * 1024;

fn open(directory: &Path, max_bytes: u64) -> Spool {
    Spool::open(directory, max_bytes).unwrap()
}

fn spool(max_bytes: u64) -> (TempDir, Spool) {
    let directory = tempfile::tempdir().unwrap();
    let spool = open(directory.path(), max_bytes);
    (directory, spool)
}

/// A request of `len` bytes that are all `mark`, with as many spans.
fn append(spool: &mut Spool, mark: u8, len: usize) -> u64 {
    let appended = spool.append(&vec![mark; len], u32::from(mark));
    appended.outcome.unwrap();
    appended.dropped
}

/// The mark of the oldest request, which is delivered.
fn deliver(spool: &mut Spool) -> Option<u8> {
    let record = spool.next().unwrap().record?;
    spool.acknowledge(&record).unwrap();
    Some(record.body[0])
}

fn deliver_all(spool: &mut Spool) -> Vec<u8> {
    std::iter::from_fn(|| deliver(spool)).collect()
}

fn files(directory: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|it| it == kind)).collect();
    files.sort();
    files
}

fn bytes_in(directory: &Path) -> u64 {
    let kinds = [SEGMENT, DAMAGED];
    let files = kinds.iter().flat_map(|kind| files(directory, kind));
    files.map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn requests_come_out_as_they_went_in() {
    let (directory, mut spool) = spool(ROOMY);
    assert!(spool.next().unwrap().record.is_none());
    for mark in 1..=5 {
        append(&mut spool, mark, 100);
    }
    assert_eq!(spool.spans(), 15);
    assert_eq!([deliver(&mut spool), deliver(&mut spool)], [Some(1), Some(2)]);
    append(&mut spool, 6, 100);
    assert_eq!(deliver_all(&mut spool), [3, 4, 5, 6]);
    assert_eq!(spool.spans(), 0);
    assert_eq!(bytes_in(directory.path()), 0, "what was delivered is gone");
}

#[test]
fn an_unacknowledged_request_comes_again() {
    let (_directory, mut spool) = spool(ROOMY);
    append(&mut spool, 1, 10);
    let record = spool.next().unwrap().record.unwrap();
    assert!(spool.put_back(&record));
    assert_eq!(spool.next().unwrap().record.unwrap().body, record.body);
}

#[test]
fn a_restart_goes_on_where_the_last_run_ended() {
    let (directory, mut spool) = spool(ROOMY);
    for mark in 1..=5 {
        append(&mut spool, mark, 100);
    }
    assert_eq!([deliver(&mut spool), deliver(&mut spool)], [Some(1), Some(2)]);
    drop(spool);
    let mut spool = open(directory.path(), ROOMY);
    assert_eq!(spool.spans(), 3 + 4 + 5);
    append(&mut spool, 6, 100);
    assert_eq!(files(directory.path(), SEGMENT).len(), 2, "old files are not written to");
    assert_eq!(deliver_all(&mut spool), [3, 4, 5, 6]);
    drop(spool);
    let mut spool = open(directory.path(), ROOMY);
    assert_eq!(deliver_all(&mut spool), Vec::<u8>::new());
    append(&mut spool, 7, 100);
    assert_eq!(deliver_all(&mut spool), [7], "numbers are not used twice");
}

#[test]
fn a_lost_cursor_costs_duplicates_alone() {
    let (directory, mut spool) = spool(ROOMY);
    for mark in 1..=3 {
        append(&mut spool, mark, 100);
    }
    deliver(&mut spool).unwrap();
    drop(spool);
    fs::remove_file(directory.path().join("cursor")).unwrap();
    assert_eq!(deliver_all(&mut open(directory.path(), ROOMY)), [1, 2, 3]);
}

#[test]
fn at_the_size_limit_the_oldest_make_room_and_are_counted() {
    let limit = 4 * LEAST_SEGMENT;
    let (directory, mut spool) = spool(limit);
    let len = 20_000;
    let (mut put, mut dropped) = (0_u64, 0);
    for mark in 1..=100 {
        dropped += append(&mut spool, mark, len);
        put += u64::from(mark);
        assert!(bytes_in(directory.path()) <= limit);
        assert_eq!(spool.spans(), put - dropped);
    }
    let left = deliver_all(&mut spool);
    assert!(left.len() >= 9, "{left:?}");
    let expected: Vec<u8> = (101 - left.len() as u8..=100).collect();
    assert_eq!(left, expected, "the newest are there");
}

#[test]
fn what_never_fits_is_refused_and_changes_nothing() {
    let (_directory, mut spool) = spool(4 * LEAST_SEGMENT);
    append(&mut spool, 1, 100);
    let appended = spool.append(&vec![0; 5 * LEAST_SEGMENT as usize], 1);
    assert_eq!(appended.dropped, 0);
    appended.outcome.unwrap_err();
    assert_eq!(deliver_all(&mut spool), [1]);
}

#[test]
fn what_is_on_its_way_is_not_counted_as_dropped() {
    let (_directory, mut spool) = spool(2 * LEAST_SEGMENT);
    append(&mut spool, 7, 60_000);
    let record = spool.next().unwrap().record.unwrap();
    let dropped: u64 = (0..3).map(|_| append(&mut spool, 1, 60_000)).sum();
    assert_eq!(dropped, 1, "the one in its place, not the 7");
    assert!(!spool.put_back(&record), "it is only here now");
    spool.acknowledge(&record).unwrap();
    assert_eq!(deliver_all(&mut spool), [1, 1]);
}

#[test]
fn a_damaged_segment_is_kept_aside_and_the_next_one_read() {
    let (directory, mut spool) = spool(16 * LEAST_SEGMENT);
    // Three in each segment.
    for mark in 1..=9 {
        append(&mut spool, mark, 20_000);
    }
    drop(spool);
    let segments = files(directory.path(), SEGMENT);
    assert_eq!(segments.len(), 3);
    // A body of the first segment, a head of the second one.
    let second_record = MAGIC.len() + HEAD_LEN + 20_000;
    for (segment, byte) in [(0, second_record + HEAD_LEN + 5), (1, second_record + 1)] {
        let mut bytes = fs::read(&segments[segment]).unwrap();
        bytes[byte] ^= 1;
        fs::write(&segments[segment], bytes).unwrap();
    }
    let mut spool = open(directory.path(), 16 * LEAST_SEGMENT);
    let known = 1 + 2 + 3 + 4 + 7 + 8 + 9;
    assert_eq!(spool.spans(), known, "behind a damaged head nothing can be known");
    let (mut read, mut damaged) = (Vec::new(), 0);
    loop {
        let next = spool.next().unwrap();
        damaged += next.damaged;
        let Some(record) = next.record else { break };
        spool.acknowledge(&record).unwrap();
        read.push(record.body[0]);
    }
    assert_eq!((read, damaged), (vec![1, 3, 4, 7, 8, 9], 2));
    assert_eq!(files(directory.path(), DAMAGED).len(), 2);
    assert_eq!((files(directory.path(), SEGMENT).len(), spool.spans()), (0, 0));

    // They count for the limit, and go first.
    for mark in 1..=60 {
        append(&mut spool, mark, 20_000);
    }
    assert_eq!(files(directory.path(), DAMAGED).len(), 0);
    assert!(bytes_in(directory.path()) <= 16 * LEAST_SEGMENT);
}

#[test]
fn files_that_vanish_or_are_no_segments_hold_nothing_up() {
    let (directory, mut spool) = spool(16 * LEAST_SEGMENT);
    for mark in 1..=9 {
        append(&mut spool, mark, 20_000);
    }
    let segments = files(directory.path(), SEGMENT);
    fs::remove_file(&segments[0]).unwrap();
    fs::write(&segments[1], vec![b'x'; 60_056]).unwrap();
    let next = spool.next().unwrap();
    assert_eq!((next.damaged, next.record.unwrap().body[0]), (1 + 2 + 3 + 4 + 5 + 6, 7));
}

#[test]
fn two_agents_do_not_share_a_spool() {
    let (directory, spool) = spool(ROOMY);
    let error = Spool::open(directory.path(), ROOMY).unwrap_err();
    assert!(matches!(error, SpoolError::InUse { .. }), "{error}");
    drop(spool);
    open(directory.path(), ROOMY);
    let error = Spool::open(Path::new("/proc/spool"), ROOMY).unwrap_err();
    assert!(error.to_string().contains("/proc/spool"), "{error}");
}

#[test]
fn nobody_else_may_read_spans() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("deep/spool");
    append(&mut open(&directory, ROOMY), 1, 10);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&files(&directory, SEGMENT)[0]), 0o600);
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Deliver,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..30_000_usize).prop_map(Step::Append),
        2 => Just(Step::Deliver),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens in which order, the spool is a queue whose oldest are dropped.
    #[test]
    fn it_is_a_queue(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let limit = 3 * LEAST_SEGMENT;
        let mut spool = open(directory.path(), limit);
        let mut model = VecDeque::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(len) => {
                    let mut body = vec![0; len + 8];
                    body[..8].copy_from_slice(&number.to_le_bytes());
                    let appended = spool.append(&body, 1);
                    prop_assert!(appended.outcome.is_ok());
                    model.push_back(body);
                    for _ in 0..appended.dropped {
                        model.pop_front();
                    }
                }
                Step::Deliver => {
                    let next = spool.next().unwrap();
                    prop_assert_eq!(next.damaged, 0);
                    let body = next.record.as_ref().map(|record| record.body.to_vec());
                    prop_assert_eq!(body, model.pop_front());
                    if let Some(record) = next.record {
                        spool.acknowledge(&record).unwrap();
                    }
                }
                Step::Restart => {
                    drop(spool);
                    spool = open(directory.path(), limit);
                }
            }
            prop_assert_eq!(spool.spans(), model.len() as u64);
            prop_assert!(bytes_in(directory.path()) <= limit);
        }
    }
}
