//! The memory of a running process, and what of it are files. Every read is bounded, and every
//! failure an absence: the process runs on meanwhile.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use tracer_ebpf::python::Memory;

/// Mappings looked through at most.
const MAX_MAPPINGS: usize = 65_536;
/// Bytes of the list of mappings at most.
const MAX_LIST: u64 = 16 * 1024 * 1024;

/// What a process can address.
#[derive(Debug)]
pub(super) struct ProcessMemory(File);

impl ProcessMemory {
    /// Of the process whose directory in the process file system this is.
    pub(super) fn of(process: &Path) -> Option<Self> {
        File::open(process.join("mem")).ok().map(Self)
    }

    pub(super) fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        self.0.read_exact_at(bytes, address).ok()
    }

    /// The 32-bit number at an address.
    pub(super) fn half(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Some(u32::from_ne_bytes(bytes))
    }

    /// Whether a NUL-terminated string stands at an address.
    pub(super) fn is_string(&self, address: u64, expected: &str) -> bool {
        let mut bytes = vec![0; expected.len() + 1];
        self.read(address, &mut bytes).is_some()
            && bytes.split_last() == Some((&0, expected.as_bytes()))
    }
}

impl Memory for ProcessMemory {
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Some(u64::from_ne_bytes(bytes))
    }
}

/// A file as it is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MappedFile {
    /// Where its first byte is.
    pub(super) start: u64,
    /// Its name without the directory.
    pub(super) name: String,
}

/// The files whose first bytes a process has mapped, in the order of their addresses.
pub(super) fn mapped_files(process: &Path) -> Vec<MappedFile> {
    let Ok(list) = File::open(process.join("maps")) else { return Vec::new() };
    let lines = BufReader::new(list.take(MAX_LIST)).lines().map_while(Result::ok);
    lines.take(MAX_MAPPINGS).filter_map(|line| mapped_file(&line)).collect()
}

/// `START-END PERMISSIONS OFFSET DEVICE INODE   PATH`, if it is the start of a file.
fn mapped_file(line: &str) -> Option<MappedFile> {
    let mut fields = line.split_ascii_whitespace();
    let (start, _) = fields.next()?.split_once('-')?;
    if u64::from_str_radix(fields.nth(1)?, 16).ok()? != 0 {
        return None;
    }
    let path = line.get(line.find('/')?..)?;
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let (_, name) = path.rsplit_once('/')?;
    Some(MappedFile { start: u64::from_str_radix(start, 16).ok()?, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_start_of_a_file_counts() {
        let line = "7f0-8f0 r--p 00000000 fe:00 12   /usr/lib/lib python3.so (deleted)";
        let expected = MappedFile { start: 0x7f0, name: "lib python3.so".to_owned() };
        assert_eq!(mapped_file(line), Some(expected));
        assert_eq!(mapped_file("7f0-8f0 r-xp 00001000 fe:00 12   /usr/lib/libpython3.so"), None);
        assert_eq!(mapped_file("7f0-8f0 rw-p 00000000 00:00 0 "), None);
        assert_eq!(mapped_file("7f0-8f0 rw-p 00000000 00:00 0   [heap]"), None);
        assert_eq!(mapped_file("nonsense"), None);
    }

    #[test]
    fn reads_this_very_process() {
        let own = ProcessMemory::of(Path::new("/proc/self")).expect("own");
        let value = 0x1234_5678_9abc_def0_u64;
        assert_eq!(own.word(std::ptr::from_ref(&value) as u64), Some(value));
        assert_eq!(own.word(0), None);
        let name = b"name\0";
        assert!(own.is_string(name.as_ptr() as u64, "name"));
        assert!(!own.is_string(name.as_ptr() as u64, "nam"));
    }
}
