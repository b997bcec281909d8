//! Go: which version built a program, and where that version keeps what is needed of goroutines
//! and channels.
//!
//! The structures only change from one minor version to the next, so the version decides; debug
//! information, which many programs lack, answers for versions that are not in the table.

use object::{Object, ObjectSection as _, ReadRef};

use super::LayoutError;
use super::debug_info::{DebugInfo, DebugInfoError};

/// The section by which `go version` knows a Go program.
const BUILD_INFO: &str = ".go.buildinfo";
/// How it begins.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// Where its flags stand, and the one that says that the version stands in it.
const FLAGS_AT: usize = 15;
const VERSION_INLINE: u8 = 2;
/// Where the version stands, after its length as a varint.
const VERSION_AT: usize = 32;
const LONGEST_VERSION: usize = 127;

/// The first minor version whose goroutines know their parent.
const OLDEST: u32 = 21;

/// Byte offsets within the runtime's structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoLayout {
    /// `g.stack`, two bounds.
    pub stack: u32,
    /// `g.goid`.
    pub id: u32,
    /// `g.parentGoid`; `g.gopc` follows it.
    pub parent: u32,
    /// `hchan.recvq.first`.
    pub receivers: u32,
    /// `sudog.g`.
    pub waiter: u32,
    /// `sudog.c`.
    pub waiter_channel: u32,
}

/// By minor version.
const RELEASED: [(std::ops::RangeInclusive<u32>, GoLayout); 4] = [
    (
        21..=22,
        GoLayout { stack: 0, id: 152, parent: 272, receivers: 56, waiter: 0, waiter_channel: 80 },
    ),
    (
        23..=24,
        GoLayout { stack: 0, id: 160, parent: 280, receivers: 64, waiter: 0, waiter_channel: 80 },
    ),
    (
        25..=25,
        GoLayout { stack: 0, id: 152, parent: 272, receivers: 64, waiter: 0, waiter_channel: 80 },
    ),
    (
        26..=27,
        GoLayout { stack: 0, id: 152, parent: 280, receivers: 64, waiter: 0, waiter_channel: 96 },
    ),
];

/// The layout of a Go program; `None` if it is none.
pub(super) fn layout<'data, R: ReadRef<'data>>(
    object: &object::File<'data, R>,
) -> Result<Option<GoLayout>, LayoutError> {
    let Some(version) = version(object) else { return Ok(None) };
    let minor = minor(&version);
    if minor.is_some_and(|minor| minor < OLDEST) {
        return Err(LayoutError::TooOld { version });
    }
    if let Some(released) = minor.and_then(released) {
        return Ok(Some(released));
    }
    match by_debug_info(object) {
        Ok(layout) => Ok(Some(layout)),
        Err(error) => Err(LayoutError::Unknown { version, reason: error.to_string() }),
    }
}

/// What built the program, such as `go1.27.3`.
fn version<'data, R: ReadRef<'data>>(object: &object::File<'data, R>) -> Option<String> {
    let section = object.section_by_name(BUILD_INFO)?;
    let start = section.data_range(section.address(), (VERSION_AT + 1) as u64).ok()??;
    if !start.starts_with(MAGIC) || start[FLAGS_AT] & VERSION_INLINE == 0 {
        return None;
    }
    // One byte is enough for the length of any version.
    let len = usize::from(start[VERSION_AT]).min(LONGEST_VERSION);
    let address = section.address() + VERSION_AT as u64 + 1;
    let version = section.data_range(address, len as u64).ok()??;
    Some(String::from_utf8_lossy(version).into_owned())
}

/// The minor version of a release, or of a candidate for one; `None` for anything else.
fn minor(version: &str) -> Option<u32> {
    let minor = version.strip_prefix("go1.")?;
    let end = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    minor[..end].parse().ok()
}

fn released(minor: u32) -> Option<GoLayout> {
    RELEASED.iter().find(|(versions, _)| versions.contains(&minor)).map(|(_, layout)| *layout)
}

fn by_debug_info<'data, R: ReadRef<'data>>(
    object: &object::File<'data, R>,
) -> Result<GoLayout, DebugInfoError> {
    const STRUCTURES: [&str; 3] = ["runtime.g", "runtime.hchan", "runtime.sudog"];
    let information = DebugInfo::read(object)?;
    let structures = information.structures(&STRUCTURES)?;
    let [g, channel, waiter] = STRUCTURES;
    let parent = structures.offset(g, &["parentGoid"])?;
    structures.require(g, "gopc", parent + 8)?;
    structures.require(channel, "qcount", 0)?;
    structures.require(channel, "dataqsiz", 8)?;
    structures.require(channel, "elemsize", 24)?;
    let hidden = ["c", "maybeTraceablePtr", "vu"];
    let waiter_channel =
        structures.offset(waiter, &hidden).or_else(|_| structures.offset(waiter, &hidden[..1]))?;
    Ok(GoLayout {
        stack: structures.offset(g, &["stack"])?,
        id: structures.offset(g, &["goid"])?,
        parent,
        receivers: structures.offset(channel, &["recvq", "first"])?,
        waiter: structures.offset(waiter, &["g"])?,
        waiter_channel,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_candidates_have_a_minor_version_and_nothing_else_has() {
        assert_eq!(minor("go1.27.3"), Some(27));
        assert_eq!(minor("go1.22"), Some(22));
        assert_eq!(minor("go1.28rc1"), Some(28));
        assert_eq!(minor("go1.26.1 X:boringcrypto"), Some(26));
        assert_eq!(minor("devel go1.28-3f1b1fa"), None);
        assert_eq!(minor("go1."), None);
        assert_eq!(minor(""), None);
    }

    #[test]
    fn every_release_with_parents_is_known_and_the_next_one_is_not() {
        assert_eq!(released(OLDEST - 1), None);
        for minor in OLDEST..=27 {
            assert!(released(minor).is_some(), "go1.{minor}");
        }
        assert_eq!(released(28), None);
    }
}
