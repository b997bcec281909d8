use std::borrow::Cow;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::event::{
    CloseKind, Closed, CodeAddress, ConnId, Data, Direction, Endpoint, Opened, Pid, StreamOffset,
    Task, TaskId, Tid,
};
use crate::target::ServiceNameSource;
use crate::trace::{Resource, ResourceId, Value};

fn header() -> Header {
    Header { clock: ClockOffset(-5), agent_version: "0.1.0".to_owned() }
}

fn record(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header()).expect("memory is writable");
    for entry in entries {
        writer.write(entry).expect("memory is writable");
    }
    writer.finish().expect("memory is writable")
}

/// Checks the entries that come before the end or an error; the number of them and the error.
fn replay(recording: &[u8], expected: &[Entry<'_>]) -> (usize, Option<ReadError>) {
    let mut reader = match Reader::new(recording) {
        Ok(reader) => reader,
        Err(error) => return (0, Some(error)),
    };
    let mut read = 0;
    loop {
        match reader.next() {
            Ok(Some(entry)) => assert_eq!(Some(&entry), expected.get(read)),
            Ok(None) => return (read, None),
            Err(error) => {
                assert!(matches!(reader.next(), Ok(None)), "an error is the end");
                return (read, Some(error));
            }
        }
        read += 1;
    }
}

fn process() -> Process {
    let resource = Resource {
        id: ResourceId(3),
        service: "shop".to_owned(),
        attributes: vec![
            ("process.pid".into(), Value::Int(7)),
            (Cow::Owned("team".to_owned()), Value::Text("a b".into())),
            ("list".into(), Value::TextList(vec!["x".to_owned()])),
            ("ratio".into(), Value::Double(0.5)),
            ("flag".into(), Value::Bool(true)),
        ],
    };
    Process {
        pid: Pid(7),
        since: KernelTime(9),
        executable: Some("/usr/bin/node".into()),
        name_source: ServiceNameSource::Program,
        instrumented: true,
        resource: Arc::new(resource),
    }
}

fn data<'a>(number: u64, head: &'a [u8], tail: &'a [u8]) -> Entry<'a> {
    Entry::Event(Event::Data(Data {
        conn: ConnId(number),
        time: KernelTime(number),
        pid: Pid(7),
        tid: Tid(8),
        direction: Direction::Send,
        offset: StreamOffset(number as u32),
        len: head.len() as u32,
        turn: 1,
        waits: 3,
        task: Some(Task { id: TaskId(4), parent: Some(TaskId(1)), site: CodeAddress(9) }),
        callback: Some(KernelTime(number)),
        head,
        tail,
        unreadable: None,
    }))
}

fn sample() -> Vec<Entry<'static>> {
    let opened = Opened {
        conn: ConnId(1),
        time: KernelTime(10),
        local: Endpoint::Inet(([127, 0, 0, 1], 80).into()),
        remote: Endpoint::Unix("/run/x".to_owned()),
        netns: 4,
        inode: 5,
        unix_pair: (1, 2),
    };
    let closed = Closed {
        conn: ConnId(1),
        time: KernelTime(12),
        kind: CloseKind::Gone,
        errno: 104,
        turns: 2,
        sent_end: Some(StreamOffset(17)),
        received_end: None,
    };
    vec![
        Entry::Process(Arc::new(process())),
        Entry::Event(Event::Opened(opened)),
        data(11, b"GET / HTTP/1.1\r\n", b"\n"),
        Entry::Event(Event::Closed(closed)),
        Entry::Event(Event::ProcessGone { pid: Pid(7), time: KernelTime(13) }),
        Entry::Tick(KernelTime(14)),
    ]
}

#[test]
fn every_kind_of_entry_comes_back() {
    let entries = sample();
    let recording = record(&entries);
    assert_eq!(Reader::new(&*recording).expect("valid").header(), &header());
    let (read, error) = replay(&recording, &entries);
    assert!(error.is_none());
    assert_eq!(read, entries.len());
}

#[test]
fn reading_borrows_instead_of_copying() {
    let recording = record(&[data(1, b"GET / HTTP/1.1\r\n", b"")]);
    let mut reader = Reader::new(&*recording).expect("valid");
    let address = |bytes: &[u8]| bytes.as_ptr() as usize;
    let head = match reader.next().expect("valid") {
        Some(Entry::Event(Event::Data(data))) => address(data.head),
        other => panic!("{other:?}"),
    };
    let buffer = address(&reader.payload)..address(&reader.payload) + reader.payload.len();
    assert!(buffer.contains(&head));
}

#[test]
fn command_lines_and_environments_are_not_recorded() {
    let seen = ProcessSeen {
        pid: Pid(7),
        parent: Pid(1),
        time: KernelTime(1),
        started: KernelTime(1),
        comm: "curl",
        arguments: b"curl\0-u\0user:hunter2\0",
        environment: b"TOKEN=hunter2\0",
        cgroup: 5,
        selected: false,
    };
    let recording = record(&[Entry::Event(Event::Process(seen.clone()))]);
    assert!(!recording.windows(7).any(|window| window == b"hunter2"));
    let kept = ProcessSeen { arguments: b"", environment: b"", ..seen };
    assert_eq!(replay(&recording, &[Entry::Event(Event::Process(kept))]).0, 1);
}

#[test]
fn an_entry_too_long_leaves_the_recording_whole() {
    let long = vec![0; MAX_FRAME + 1];
    let mut writer = Writer::new(Vec::new(), &header()).expect("memory is writable");
    assert!(matches!(writer.write(&data(1, &long, b"")), Err(WriteError::TooLong(_))));
    writer.write(&Entry::Tick(KernelTime(1))).expect("memory is writable");
    let recording = writer.finish().expect("memory is writable");
    let (read, error) = replay(&recording, &[Entry::Tick(KernelTime(1))]);
    assert!(read == 1 && error.is_none());
}

#[test]
fn other_files_and_versions_are_refused() {
    assert!(matches!(Reader::new(&b""[..]), Err(ReadError::NotARecording)));
    assert!(matches!(Reader::new(&b"{\"spans\": []}"[..]), Err(ReadError::NotARecording)));
    let mut recording = record(&[]);
    recording[8] = 99;
    let error = Reader::new(&*recording).expect_err("another version");
    assert!(matches!(error, ReadError::Version { found: 99 }));
    assert!(error.to_string().contains("replay it with the agent that recorded it"));
}

#[test]
fn files_are_private_and_never_overwritten() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("run.rec");
    let file = create(&path).expect("a new file");
    let mode = file.get_ref().metadata().expect("open").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(create(&path).expect_err("it exists").kind(), ErrorKind::AlreadyExists);
}

/// Where each frame of the sample begins, and where the last one ends.
fn frames(recording: &[u8]) -> Vec<usize> {
    let mut reader = Reader::new(recording).expect("valid");
    let mut offsets = vec![reader.offset() as usize];
    while reader.next().expect("valid").is_some() {
        offsets.push(reader.offset() as usize);
    }
    offsets
}

proptest! {
    #[test]
    fn data_comes_back(
        messages in prop::collection::vec(
            (any::<u64>(), prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(any::<u8>(), 0..9)),
            0..8,
        ),
    ) {
        let entries: Vec<_> =
            messages.iter().map(|(number, head, tail)| data(*number, head, tail)).collect();
        let (read, error) = replay(&record(&entries), &entries);
        prop_assert!(error.is_none());
        prop_assert_eq!(read, entries.len());
    }

    /// Wherever it is cut, what was whole is delivered and the cut is named.
    #[test]
    fn a_cut_recording_is_read_up_to_the_cut(cut in any::<prop::sample::Index>()) {
        let (entries, recording) = (sample(), record(&sample()));
        let frames = frames(&recording);
        let cut = cut.index(recording.len());
        let (read, error) = replay(&recording[..cut], &entries);
        let whole = frames.iter().filter(|&&end| end <= cut).count();
        prop_assert_eq!(read, whole.saturating_sub(1));
        match error {
            None => prop_assert!(frames.contains(&cut)),
            Some(ReadError::Truncated { offset }) if whole > 0 => {
                prop_assert_eq!(offset as usize, frames[whole - 1]);
            }
            Some(ReadError::NotARecording | ReadError::Truncated { .. }) => {
                prop_assert_eq!(whole, 0);
            }
            Some(other) => prop_assert!(false, "{other}"),
        }
    }

    /// Whichever bit flips, what came before is delivered and the damage is found.
    #[test]
    fn damage_is_found(byte in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (entries, mut recording) = (sample(), record(&sample()));
        let frames = frames(&recording);
        let byte = byte.index(recording.len());
        recording[byte] ^= 1 << bit;
        let (read, error) = replay(&recording, &entries);
        let before = frames.iter().filter(|&&end| end <= byte).count();
        prop_assert_eq!(read, before.saturating_sub(1));
        match error {
            Some(ReadError::Corrupt { offset, .. } | ReadError::Truncated { offset }) => {
                let begins = if before == 0 { 10 } else { frames[before - 1] };
                prop_assert_eq!(offset as usize, begins);
            }
            Some(ReadError::NotARecording | ReadError::Version { .. }) => prop_assert!(byte < 10),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn no_file_is_too_strange(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut recording = record(&[]);
        recording.extend(noise);
        let mut reader = Reader::new(&*recording).expect("the header is whole");
        while let Ok(Some(_)) = reader.next() {}
    }
}
