//! Members of structures, out of a program's DWARF debug information.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read as _;

use flate2::read::ZlibDecoder;
use gimli::{
    AttributeValue, DebuggingInformationEntry, EndianSlice, LittleEndian, SectionId, UnitOffset,
};
use object::{CompressionFormat, Object, ObjectSection as _, ReadRef};

/// Largest section that is read, uncompressed.
const MAX_SECTION: u64 = 512 << 20;
/// Names that one structure has, at most.
const MAX_NAMES: usize = 8;

/// Why a member cannot be found.
#[derive(Debug, thiserror::Error)]
pub(super) enum DebugInfoError {
    /// There is none.
    #[error("there is none")]
    Missing,
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// It is not as expected.
    #[error("no {0} where it was so far")]
    NoMember(String),
}

impl From<gimli::Error> for DebugInfoError {
    fn from(error: gimli::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Unit<'a> = gimli::Unit<Slice<'a>>;

/// All of it that is needed.
pub(super) struct DebugInfo<'data> {
    sections: gimli::DwarfSections<Cow<'data, [u8]>>,
}

impl<'data> DebugInfo<'data> {
    pub(super) fn read<R: ReadRef<'data>>(
        object: &object::File<'data, R>,
    ) -> Result<Self, DebugInfoError> {
        let sections = gimli::DwarfSections::load(|id| Ok::<_, gimli::Error>(section(object, id)))?;
        Ok(Self { sections })
    }

    /// The structures of these names.
    pub(super) fn structures(&self, names: &[&str]) -> Result<Structures<'_>, DebugInfoError> {
        let dwarf = self.sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        let mut units = Vec::new();
        let mut headers = dwarf.units();
        while let Some(header) = headers.next()? {
            units.push(dwarf.unit(header)?);
        }
        let mut structures = Structures { units, dwarf, by_name: HashMap::new() };
        structures.find(names)?;
        if structures.by_name.is_empty() { Err(DebugInfoError::Missing) } else { Ok(structures) }
    }
}

/// Where the description of something stands: which unit, and where in it.
type Place = (usize, UnitOffset);

/// Some structures of a program.
pub(super) struct Structures<'a> {
    dwarf: gimli::Dwarf<Slice<'a>>,
    units: Vec<Unit<'a>>,
    by_name: HashMap<String, Place>,
}

impl Structures<'_> {
    /// Byte offset of a member, or of a member of a member.
    pub(super) fn offset(&self, name: &str, path: &[&str]) -> Result<u32, DebugInfoError> {
        let missing = || DebugInfoError::NoMember(format!("{name}.{}", path.join(".")));
        let mut place = *self.by_name.get(name).ok_or_else(missing)?;
        let mut sum = 0;
        for member in path {
            let (offset, inner) = self.member(place, member)?.ok_or_else(missing)?;
            sum += offset;
            place = inner;
        }
        u32::try_from(sum).map_err(|_| missing())
    }

    /// Makes sure that a member stands where it is expected.
    pub(super) fn require(
        &self,
        name: &str,
        member: &str,
        expected: u32,
    ) -> Result<(), DebugInfoError> {
        if self.offset(name, &[member])? == expected {
            return Ok(());
        }
        Err(DebugInfoError::NoMember(format!("{name}.{member}")))
    }

    fn find(&mut self, names: &[&str]) -> Result<(), DebugInfoError> {
        for (index, unit) in self.units.iter().enumerate() {
            let mut entries = unit.entries();
            while let Some((_, entry)) = entries.next_dfs()? {
                if entry.tag() == gimli::DW_TAG_structure_type
                    && let Some(name) = self.name(unit, entry)?
                    && names.iter().any(|wanted| wanted.as_bytes() == name.slice())
                {
                    let name = name.to_string_lossy().into_owned();
                    self.by_name.insert(name, (index, entry.offset()));
                    if self.by_name.len() == names.len() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Offset and type of a member.
    fn member(&self, of: Place, wanted: &str) -> Result<Option<(u64, Place)>, DebugInfoError> {
        let (index, offset) = self.structure(of)?;
        let unit = &self.units[index];
        let mut tree = unit.entries_tree(Some(offset))?;
        let mut members = tree.root()?.children();
        while let Some(member) = members.next()? {
            let entry = member.entry();
            let name = self.name(unit, entry)?;
            if entry.tag() != gimli::DW_TAG_member
                || name.is_none_or(|name| name.slice() != wanted.as_bytes())
            {
                continue;
            }
            let at = entry.attr_value(gimli::DW_AT_data_member_location)?;
            let at = at.and_then(|at| at.udata_value());
            let inner = self.type_of(index, entry)?;
            return Ok(at.zip(inner));
        }
        Ok(None)
    }

    /// The structure behind other names of it.
    fn structure(&self, mut place: Place) -> Result<Place, DebugInfoError> {
        for _ in 0..MAX_NAMES {
            let entry = self.units[place.0].entry(place.1)?;
            if entry.tag() != gimli::DW_TAG_typedef {
                break;
            }
            let Some(inner) = self.type_of(place.0, &entry)? else { break };
            place = inner;
        }
        Ok(place)
    }

    fn type_of(
        &self,
        unit: usize,
        entry: &DebuggingInformationEntry<'_, '_, Slice<'_>>,
    ) -> Result<Option<Place>, DebugInfoError> {
        Ok(match entry.attr_value(gimli::DW_AT_type)? {
            Some(AttributeValue::UnitRef(offset)) => Some((unit, offset)),
            Some(AttributeValue::DebugInfoRef(offset)) => {
                self.units.iter().enumerate().find_map(|(index, unit)| {
                    offset.to_unit_offset(&unit.header).map(|offset| (index, offset))
                })
            }
            _ => None,
        })
    }

    fn name<'a>(
        &'a self,
        unit: &Unit<'a>,
        entry: &DebuggingInformationEntry<'_, '_, Slice<'a>>,
    ) -> Result<Option<Slice<'a>>, DebugInfoError> {
        let name = entry.attr_value(gimli::DW_AT_name)?;
        Ok(name.map(|name| self.dwarf.attr_string(unit, name)).transpose()?)
    }
}

/// A section, uncompressed; empty if there is none that can be read.
fn section<'data, R: ReadRef<'data>>(
    object: &object::File<'data, R>,
    id: SectionId,
) -> Cow<'data, [u8]> {
    let Some(section) = object.section_by_name(id.name()) else { return Cow::default() };
    let Ok(compressed) = section.compressed_data() else { return Cow::default() };
    if compressed.uncompressed_size > MAX_SECTION {
        return Cow::default();
    }
    match compressed.format {
        CompressionFormat::None => Cow::Borrowed(compressed.data),
        CompressionFormat::Zlib => {
            let mut bytes = Vec::new();
            let mut decoder = ZlibDecoder::new(compressed.data).take(MAX_SECTION);
            match decoder.read_to_end(&mut bytes) {
                Ok(_) => Cow::Owned(bytes),
                Err(_) => Cow::default(),
            }
        }
        _ => Cow::default(),
    }
}

#[cfg(test)]
mod tests {
    use gimli::write;
    use gimli::{Encoding, Format};

    use super::*;

    fn add(
        unit: &mut write::Unit,
        parent: write::UnitEntryId,
        tag: gimli::DwTag,
        name: &str,
    ) -> write::UnitEntryId {
        let id = unit.add(parent, tag);
        let name = write::AttributeValue::String(name.as_bytes().to_vec());
        unit.get_mut(id).set(gimli::DW_AT_name, name);
        id
    }

    fn add_member(
        unit: &mut write::Unit,
        structure: write::UnitEntryId,
        (name, at): (&str, u64),
        of: write::UnitEntryId,
    ) {
        let id = add(unit, structure, gimli::DW_TAG_member, name);
        let entry = unit.get_mut(id);
        entry.set(gimli::DW_AT_data_member_location, write::AttributeValue::Udata(at));
        entry.set(gimli::DW_AT_type, write::AttributeValue::UnitRef(of));
    }

    /// A structure `outer` with a number and, by another name for it, a structure of two numbers.
    fn information() -> DebugInfo<'static> {
        let encoding = Encoding { format: Format::Dwarf32, version: 5, address_size: 8 };
        let mut dwarf = write::DwarfUnit::new(encoding);
        let unit = &mut dwarf.unit;
        let root = unit.root();
        let number = add(unit, root, gimli::DW_TAG_base_type, "number");
        let inner = add(unit, root, gimli::DW_TAG_structure_type, "inner");
        add_member(unit, inner, ("first", 0), number);
        add_member(unit, inner, ("wanted", 8), number);
        let alias = add(unit, root, gimli::DW_TAG_typedef, "alias");
        unit.get_mut(alias).set(gimli::DW_AT_type, write::AttributeValue::UnitRef(inner));
        let outer = add(unit, root, gimli::DW_TAG_structure_type, "outer");
        add_member(unit, outer, ("first", 0), number);
        add_member(unit, outer, ("nested", 16), alias);

        let mut written = write::Sections::new(write::EndianVec::new(LittleEndian));
        dwarf.write(&mut written).unwrap();
        let section = |id| -> Result<Cow<'static, [u8]>, gimli::Error> {
            let bytes = written.get(id).map(|section| section.slice().to_vec());
            Ok(Cow::Owned(bytes.unwrap_or_default()))
        };
        DebugInfo { sections: gimli::DwarfSections::load(section).unwrap() }
    }

    #[test]
    fn members_are_found_in_structures_and_in_their_members() {
        let information = information();
        let structures = information.structures(&["outer"]).unwrap();
        assert_eq!(structures.offset("outer", &["nested"]).unwrap(), 16);
        assert_eq!(structures.offset("outer", &["nested", "wanted"]).unwrap(), 24);
        assert!(structures.require("outer", "first", 0).is_ok());
    }

    #[test]
    fn what_is_missing_or_elsewhere_is_an_error_that_names_it() {
        let information = information();
        let structures = information.structures(&["outer"]).unwrap();
        for path in [&["missing"][..], &["nested", "missing"], &["first", "wanted"]] {
            let error = structures.offset("outer", path).unwrap_err();
            assert!(error.to_string().contains(&path.join(".")), "{error}");
        }
        let error = structures.require("outer", "nested", 8).unwrap_err();
        assert!(error.to_string().contains("outer.nested"), "{error}");
        assert!(matches!(information.structures(&["none"]), Err(DebugInfoError::Missing)));
    }
}
