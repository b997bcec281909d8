//! The symbols that a mapped ELF file exports, as the dynamic linker finds them: in memory, by the
//! GNU hash table. Works for files that were replaced or are out of the agent's sight.

use tracer_ebpf::python::Memory as _;

use super::memory::ProcessMemory;

const MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");
const PROGRAM_HEADERS: u64 = 32;
const PROGRAM_HEADER_COUNT: u64 = 56;
const PROGRAM_HEADER_SIZE: u64 = 56;
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;

/// Entries of the dynamic section at most.
const MAX_ENTRIES: u64 = 256;
const STRING_TABLE: u64 = 5;
const SYMBOL_TABLE: u64 = 6;
const GNU_HASH: u64 = 0x6fff_fef5;

/// Symbols of one hash bucket at most.
const MAX_CHAIN: u32 = 4_096;
const SYMBOL_SIZE: u64 = 24;
const SYMBOL_VALUE: u64 = 8;

/// The exports of one mapped file.
#[derive(Debug)]
pub(super) struct Symbols<'a> {
    memory: &'a ProcessMemory,
    /// What is added to addresses of the file.
    bias: u64,
    names: u64,
    entries: u64,
    hashes: u64,
}

impl<'a> Symbols<'a> {
    /// Those of the file mapped from `start` on.
    pub(super) fn of(memory: &'a ProcessMemory, start: u64) -> Option<Self> {
        if memory.half(start)? != MAGIC {
            return None;
        }
        let headers = start + memory.word(start + PROGRAM_HEADERS)?;
        let count = memory.half(start + PROGRAM_HEADER_COUNT)? & 0xffff;
        let header = |kind| {
            let mut all = (0..count).map(|index| headers + u64::from(index) * PROGRAM_HEADER_SIZE);
            all.find(|header| memory.half(*header) == Some(kind))
        };
        let bias = start.wrapping_sub(memory.word(header(LOAD)? + 16)?);
        let dynamic = bias.wrapping_add(memory.word(header(DYNAMIC)? + 16)?);
        let entry = |tag| {
            let mut all = (0..MAX_ENTRIES).map(|index| dynamic + index * 16);
            let found = all.find(|entry| memory.word(*entry).is_none_or(|it| it == tag || it == 0));
            let value = found.filter(|entry| memory.word(*entry) == Some(tag));
            let value = memory.word(value? + 8)?;
            // Some dynamic linkers turn these into addresses in place, some do not.
            Some(if value < start { bias.wrapping_add(value) } else { value })
        };
        Some(Self {
            bias,
            names: entry(STRING_TABLE)?,
            entries: entry(SYMBOL_TABLE)?,
            hashes: entry(GNU_HASH)?,
            memory,
        })
    }

    /// Address of an exported symbol.
    pub(super) fn address(&self, name: &str) -> Option<u64> {
        let memory = self.memory;
        let buckets = memory.half(self.hashes)?;
        let first = memory.half(self.hashes + 4)?;
        let bloom = memory.half(self.hashes + 8)?;
        let bucket_table = self.hashes + 16 + u64::from(bloom) * 8;
        let chain = bucket_table + u64::from(buckets) * 4;
        let hash = gnu_hash(name);
        let bucket = hash.checked_rem(buckets)?;
        let start = memory.half(bucket_table + u64::from(bucket) * 4)?;
        for index in start..start.checked_add(MAX_CHAIN)? {
            let other = memory.half(chain + u64::from(index.checked_sub(first)?) * 4)?;
            let symbol = self.entries + u64::from(index) * SYMBOL_SIZE;
            if other | 1 == hash | 1
                && memory.is_string(self.names + u64::from(memory.half(symbol)?), name)
            {
                return Some(self.bias.wrapping_add(memory.word(symbol + SYMBOL_VALUE)?));
            }
            if other & 1 != 0 {
                return None;
            }
        }
        None
    }
}

fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381, |hash: u32, byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::memory::mapped_files;
    use super::*;

    #[test]
    fn finds_what_the_c_library_exports() {
        let own = Path::new("/proc/self");
        let memory = ProcessMemory::of(own).expect("we exist");
        let files = mapped_files(own);
        let library = files.iter().find(|file| file.name.starts_with("libc.so")).expect("libc");
        let symbols = Symbols::of(&memory, library.start).expect("an ELF file");
        let found = symbols.address("malloc").expect("exported");
        assert!(found > library.start);
        assert_ne!(symbols.address("free"), Some(found));
        assert_eq!(symbols.address("no such symbol"), None);
    }
}
