//! Where members of kernel structures stand, read from the kernel's own type information.
//!
//! Parses just enough of BTF (kernel documentation, `bpf/btf.rst`) to answer "offset of member
//! M in structure S", through anonymous members. Must not know what the offsets are for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Where the running kernel publishes its types.
pub(super) const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why an offset could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KernelTypesError {
    /// The file is not there or not readable.
    #[error(
        "cannot read kernel type information from {path}: {source}; the kernel must be built with \
         CONFIG_DEBUG_INFO_BTF=y (all current distributions do)"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data is not BTF.
    #[error("kernel type information is malformed at byte {at}")]
    Malformed {
        /// Where parsing stopped.
        at: usize,
    },
    /// The kernel has no such member.
    #[error("this kernel has no member `{member}` in `struct {structure}`")]
    NoMember {
        /// Structure name.
        structure: String,
        /// Member name.
        member: String,
    },
}

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;
const MODIFIERS: [u32; 5] = [8, 9, 10, 11, 18];

/// The kernel's types.
pub(super) struct KernelTypes {
    data: Vec<u8>,
    strings: usize,
    /// Offset of each type's description, by type id.
    types: Vec<usize>,
    structures: HashMap<String, u32>,
}

impl KernelTypes {
    /// Reads the running kernel's types.
    pub(super) fn of_running_kernel() -> Result<Self, KernelTypesError> {
        Self::from_file(Path::new(KERNEL_BTF))
    }

    /// Reads types from a file of raw BTF.
    pub(super) fn from_file(path: &Path) -> Result<Self, KernelTypesError> {
        let data = std::fs::read(path)
            .map_err(|source| KernelTypesError::Read { path: path.to_owned(), source })?;
        Self::parse(data)
    }

    fn parse(data: Vec<u8>) -> Result<Self, KernelTypesError> {
        let header = u32_at(&data, 0)?;
        if header & 0xffff != u32::from(MAGIC) {
            return Err(KernelTypesError::Malformed { at: 0 });
        }
        let header_len = u32_at(&data, 4)? as usize;
        let types_start = header_len + u32_at(&data, 8)? as usize;
        let types_end = types_start + u32_at(&data, 12)? as usize;
        let strings = header_len + u32_at(&data, 16)? as usize;

        let mut this = Self { data, strings, types: vec![0], structures: HashMap::new() };
        let mut at = types_start;
        while at < types_end {
            let id = this.types.len() as u32;
            let (kind, len) = this.kind_and_len(at)?;
            let size = match kind {
                KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                KIND_ARRAY => 12,
                KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * len,
                KIND_ENUM | KIND_FUNC_PROTO => 8 * len,
                _ => 0,
            };
            if kind == KIND_STRUCT {
                let name = this.string(u32_at(&this.data, at)?)?.to_owned();
                this.structures.entry(name).or_insert(id);
            }
            this.types.push(at);
            at += 12 + size;
        }
        Ok(this)
    }

    /// Byte offset of `path` (members separated by dots) in `structure`.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Result<u32, KernelTypesError> {
        let missing = || KernelTypesError::NoMember {
            structure: structure.to_owned(),
            member: path.to_owned(),
        };
        let mut id = *self.structures.get(structure).ok_or_else(missing)?;
        let mut bits = 0;
        for member in path.split('.') {
            let (offset, type_id) = self.member(id, member)?.ok_or_else(missing)?;
            bits += offset;
            id = type_id;
        }
        Ok(bits / 8)
    }

    /// Bit offset and type of a member, also of one in an anonymous structure or union.
    fn member(&self, id: u32, name: &str) -> Result<Option<(u32, u32)>, KernelTypesError> {
        let Some(at) = self.resolve(id)? else { return Ok(None) };
        let (kind, len) = self.kind_and_len(at)?;
        if kind != KIND_STRUCT && kind != KIND_UNION {
            return Ok(None);
        }
        // With the kind flag the upper byte of an offset is a bit-field size.
        let offset_mask =
            if u32_at(&self.data, at + 4)? >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        for index in 0..len {
            let member_at = at + 12 + 12 * index;
            let member_name = self.string(u32_at(&self.data, member_at)?)?;
            let type_id = u32_at(&self.data, member_at + 4)?;
            let offset = u32_at(&self.data, member_at + 8)? & offset_mask;
            if member_name == name {
                return Ok(Some((offset, type_id)));
            }
            if member_name.is_empty()
                && let Some((inner, inner_type)) = self.member(type_id, name)?
            {
                return Ok(Some((offset + inner, inner_type)));
            }
        }
        Ok(None)
    }

    /// Follows `const`, `volatile`, `typedef` and the like.
    fn resolve(&self, mut id: u32) -> Result<Option<usize>, KernelTypesError> {
        for _ in 0..16 {
            let Some(&at) = self.types.get(id as usize) else { return Ok(None) };
            if id == 0 {
                return Ok(None);
            }
            let (kind, _) = self.kind_and_len(at)?;
            if !MODIFIERS.contains(&kind) {
                return Ok(Some(at));
            }
            id = u32_at(&self.data, at + 8)?;
        }
        Ok(None)
    }

    fn kind_and_len(&self, at: usize) -> Result<(u32, usize), KernelTypesError> {
        let info = u32_at(&self.data, at + 4)?;
        Ok(((info >> 24) & 0x1f, (info & 0xffff) as usize))
    }

    fn string(&self, offset: u32) -> Result<&str, KernelTypesError> {
        let at = self.strings + offset as usize;
        let rest = self.data.get(at..).ok_or(KernelTypesError::Malformed { at })?;
        let end =
            rest.iter().position(|byte| *byte == 0).ok_or(KernelTypesError::Malformed { at })?;
        std::str::from_utf8(&rest[..end]).map_err(|_| KernelTypesError::Malformed { at })
    }
}

fn u32_at(data: &[u8], at: usize) -> Result<u32, KernelTypesError> {
    let bytes = data.get(at..at + 4).ok_or(KernelTypesError::Malformed { at })?;
    Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_offsets_of_the_running_kernel() {
        let types = KernelTypes::of_running_kernel().unwrap();
        assert_eq!(types.offset("list_head", "prev").unwrap(), 8);
        // Through nested and anonymous members.
        assert_eq!(types.offset("sock", "__sk_common.skc_family").unwrap(), 16);
        assert_eq!(types.offset("sock", "__sk_common.skc_num").unwrap(), 14);
        assert!(matches!(
            types.offset("sock", "no_such_member"),
            Err(KernelTypesError::NoMember { .. })
        ));
    }

    #[test]
    fn rejects_what_is_not_btf() {
        assert!(matches!(
            KernelTypes::parse(vec![0; 64]),
            Err(KernelTypesError::Malformed { at: 0 })
        ));
        let truncated = std::fs::read(KERNEL_BTF).unwrap()[..4096].to_vec();
        assert!(matches!(KernelTypes::parse(truncated), Err(KernelTypesError::Malformed { .. })));
    }
}
