//! Python objects in another process' memory: strings, dictionaries, modules, classes. Only what
//! is needed to find something by its name; bounded in all that the other side could make endless.

use tracer_ebpf::python::{Memory as _, keys};

use super::memory::ProcessMemory;
use super::releases::{Instances, Release};

/// Entries of a dictionary looked through.
const MAX_ENTRIES: u64 = 65_536;
/// Items of a tuple looked through.
const MAX_ITEMS: u64 = 256;

const TYPE: u64 = 8;
const SIZE: u64 = 16;
const DICT_KEYS: u64 = 32;
const TUPLE_ITEMS: u64 = 24;
const MODULE_DICT: u64 = 16;
const TYPE_NAME: u64 = 24;
const TYPE_INSTANCE_SIZE: u64 = 32;
const TYPE_DICT: u64 = 264;
const TYPE_DICT_OFFSET: u64 = 288;
/// `PyDictObject.ma_values`.
const DICT_VALUES: i32 = 40;

/// The kinds of entries of a dictionary's keys from 3.11 on; anything else has names only.
const GENERAL_KEYS: u8 = 0;
/// The first value of the array after an instance.
const INLINE_VALUES: i32 = 8;

/// The objects of one process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Objects<'a> {
    pub(super) memory: &'a ProcessMemory,
    pub(super) release: &'static Release,
}

/// How the keys of a dictionary lie in memory.
struct Entries {
    start: u64,
    count: u64,
    /// Bytes from one to the next.
    stride: u64,
    /// The name within one; its value comes next.
    name: u64,
}

impl Objects<'_> {
    /// A global of a module that was imported.
    pub(super) fn global(&self, modules: u64, module: &str, name: &str) -> Option<u64> {
        let module = self.value(modules, module)?;
        self.value(self.memory.word(module + MODULE_DICT)?, name)
    }

    /// What a dictionary holds under a name.
    pub(super) fn value(&self, dictionary: u64, name: &str) -> Option<u64> {
        let entries = self.entries(self.memory.word(dictionary + DICT_KEYS)?)?;
        let index = self.index(&entries, name)?;
        let value = entries.start + index * entries.stride + entries.name + 8;
        self.memory.word(value).filter(|value| *value != 0)
    }

    /// The class attribute of that name.
    pub(super) fn class_attribute(&self, class: u64, name: &str) -> Option<u64> {
        self.value(self.memory.word(class + TYPE_DICT)?, name)
    }

    /// From an instance of a class to its attribute of that name. Before there was an instance,
    /// it is the `expected` one that instances are given, counted from zero.
    pub(super) fn attribute(&self, class: u64, name: &str, expected: u64) -> Option<Vec<i32>> {
        let shared = self.memory.word(class + self.release.shared_keys)?;
        let known = self.entries(shared).and_then(|entries| self.index(&entries, name));
        let value = i32::try_from(known.unwrap_or(expected) * 8).ok()?;
        Some(match self.release.instances {
            Instances::Dictionary => {
                let offset = i32::try_from(self.memory.word(class + TYPE_DICT_OFFSET)?).ok()?;
                vec![offset, DICT_VALUES, value]
            }
            Instances::Before => vec![-32, value],
            Instances::Tagged => vec![-24, value + 1],
            Instances::Inline => {
                let size = i32::try_from(self.memory.word(class + TYPE_INSTANCE_SIZE)?).ok()?;
                vec![size + INLINE_VALUES + value]
            }
        })
    }

    /// From a frame of a function to its variable of that name.
    pub(super) fn variable(&self, code: u64, name: &str) -> Option<i32> {
        let names = self.memory.word(code + self.release.variable_names)?;
        let count = self.memory.word(names + SIZE)?.min(MAX_ITEMS);
        let mut all = 0..count;
        let index = all.find(|index| {
            let item = self.memory.word(names + TUPLE_ITEMS + index * 8);
            item.is_some_and(|item| self.is_text(item, name))
        })?;
        Some(self.release.frame_variables + i32::try_from(index * 8).ok()?)
    }

    /// Whether an object's class has that name.
    pub(super) fn is_a(&self, object: u64, class: &str) -> bool {
        self.memory.word(object + TYPE).is_some_and(|kind| self.is_class(kind, class))
    }

    /// Whether a class has that name.
    pub(super) fn is_class(&self, class: u64, name: &str) -> bool {
        let at = self.memory.word(class + TYPE_NAME);
        at.is_some_and(|at| self.memory.is_string(at, name))
    }

    fn entries(&self, at: u64) -> Option<Entries> {
        let word = |offset| self.memory.word(at + offset);
        let general = |start, count| Entries { start, count, stride: 24, name: 8 };
        let entries = if self.release.keys == keys::SIZED {
            let size = word(8)?;
            let index = match size {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                _ => 4,
            };
            general(at + 40 + size.checked_mul(index)?, word(32)?)
        } else {
            let [_, index_bytes, kind, ..] = word(8)?.to_le_bytes();
            let start = (at + 32).checked_add(1u64.checked_shl(index_bytes.into())?)?;
            let count = word(24)?;
            match kind {
                GENERAL_KEYS => general(start, count),
                _ => Entries { start, count, stride: 16, name: 0 },
            }
        };
        (entries.count <= MAX_ENTRIES).then_some(entries)
    }

    fn index(&self, entries: &Entries, name: &str) -> Option<u64> {
        (0..entries.count).find(|index| {
            let key = self.memory.word(entries.start + index * entries.stride + entries.name);
            key.is_some_and(|key| key != 0 && self.is_text(key, name))
        })
    }

    /// Whether an object is that ASCII string.
    fn is_text(&self, object: u64, expected: &str) -> bool {
        self.memory.word(object + SIZE) == Some(expected.len() as u64)
            && self.memory.is_string(object + self.release.characters, expected)
    }
}
