//! Header blocks (RFC 7541): finds the fields that carry trace context, and writes others instead.
//!
//! The application's coding stays as it is. A field is added at a block's end by a literal that
//! enters no table. One that is there is replaced where it stands, by a representation with the same
//! effect on the server's dynamic table: what the table then holds is of the same size as what the
//! application believes it to hold, and where the application refers to it later, the value it meant
//! is written out. So both tables stay in step without a second coder.

use std::collections::VecDeque;
use std::ops::Range;

use super::huffman;
use crate::exchange::Field;
use crate::proxy::heads::is_context_field;

/// Bytes that are reckoned for an entry beside its name and value (section 4.1).
const ENTRY_OVERHEAD: usize = 32;
/// Size of the dynamic table until the application says otherwise.
const DEFAULT_SIZE: usize = 4096;
/// Size of the dynamic table at most. Servers that allow more are rare, applications that use it
/// are rarer.
const MAX_SIZE: usize = 64 * 1024;

/// Lengths of the names in the static table (appendix A); none of them is of interest.
#[rustfmt::skip]
const STATIC_NAMES: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16,
    13, 12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10,
    4, 3, 16,
];

/// The decoder's state, of what the application sends on one connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The latest entry first.
    entries: VecDeque<Entry>,
    size: usize,
    max_size: usize,
    /// Entries that were ever made.
    made: u64,
}

#[derive(Debug)]
struct Entry {
    name_len: usize,
    value_len: usize,
    /// The field, if it carries context.
    context: Option<Box<Field>>,
    /// The server has another value of the same length in its place.
    differs: bool,
}

/// A field that carries context, as it stands in a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    field: Field,
    place: Range<usize>,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// A reference to an entry; `true` if the server has another value there.
    Indexed { differs: bool },
    /// Enters no table.
    Literal,
    /// Enters the table as entry number `made`; the value's string begins at `value`.
    Inserted { made: u64, value: usize, value_len: usize },
}

/// A block breaks the rules, or a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// What is there cannot be replaced without the application's knowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Irreplaceable;

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, max_size: DEFAULT_SIZE, made: 0 }
    }
}

impl Decoder {
    /// Reads a block; finds the fields that carry context.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Vec<Found>, Broken> {
        let mut reader = Reader { block, at: 0 };
        let mut found = Vec::new();
        while let Some(&first) = block.get(reader.at) {
            let start = reader.at;
            let (name_prefix, is_inserted) = match first {
                0x80.. => {
                    let index = reader.integer(7)?;
                    found.extend(self.indexed(index, start..reader.at)?);
                    continue;
                }
                0x40.. => (6, true),
                0x20.. => {
                    let size = reader.integer(5)?;
                    self.resize(size)?;
                    continue;
                }
                _ => (4, false),
            };
            let name = match reader.integer(name_prefix)? {
                0 => reader.name()?,
                index => self.name(index)?,
            };
            let value_at = reader.at;
            let value = reader.string()?;
            let context = match &name.context {
                Some(name) => {
                    let value = value.text().ok_or(Broken)?;
                    Some((name.clone(), value.trim().into()))
                }
                None => None,
            };
            let value_len = value.len().ok_or(Broken)?;
            let place = start..reader.at;
            if is_inserted {
                if let Some(field) = &context {
                    let form = Form::Inserted { made: self.made, value: value_at, value_len };
                    found.push(Found { field: field.clone(), place, form });
                }
                let context = context.map(Box::new);
                self.insert(Entry { name_len: name.len, value_len, context, differs: false });
            } else if let Some(field) = context {
                found.push(Found { field, place, form: Form::Literal });
            }
        }
        Ok(found)
    }

    fn indexed(&self, index: usize, place: Range<usize>) -> Result<Option<Found>, Broken> {
        if index <= STATIC_NAMES.len() {
            return if index == 0 { Err(Broken) } else { Ok(None) };
        }
        let entry = self.entries.get(index - STATIC_NAMES.len() - 1).ok_or(Broken)?;
        Ok(entry.context.as_ref().map(|field| Found {
            field: (**field).clone(),
            place,
            form: Form::Indexed { differs: entry.differs },
        }))
    }

    fn name(&self, index: usize) -> Result<Name, Broken> {
        if let Some(len) = STATIC_NAMES.get(index - 1) {
            return Ok(Name { len: usize::from(*len), context: None });
        }
        let entry = self.entries.get(index - STATIC_NAMES.len() - 1).ok_or(Broken)?;
        let context = entry.context.as_ref().map(|field| field.0.clone());
        Ok(Name { len: entry.name_len, context })
    }

    fn insert(&mut self, entry: Entry) {
        self.made += 1;
        let size = entry.size();
        self.evict(size);
        // One that is larger than the table empties it (section 4.4).
        if size <= self.max_size {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    fn resize(&mut self, size: usize) -> Result<(), Broken> {
        if size > MAX_SIZE {
            return Err(Broken);
        }
        self.max_size = size;
        self.evict(0);
        Ok(())
    }

    /// Makes room for so many bytes.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.max_size {
            let Some(entry) = self.entries.pop_back() else { break };
            self.size -= entry.size();
        }
    }

    /// The server got another value for the entry that was made as number `made`.
    fn mark(&mut self, made: u64) {
        let later = self.made - made - 1;
        if let Some(entry) = self.entries.get_mut(later as usize) {
            entry.differs = true;
        }
    }

    /// Writes a block as the server is to see it: with the fields `wanted` and no other context, or
    /// with what the application meant.
    pub(super) fn rewrite(
        &mut self,
        block: &[u8],
        found: &[Found],
        wanted: Option<&[(&'static str, String)]>,
    ) -> Result<Vec<u8>, Irreplaceable> {
        let mut rest: Vec<_> = wanted.unwrap_or_default().iter().collect();
        let (mut out, mut at, mut replaced) = (Vec::with_capacity(block.len() + 80), 0, Vec::new());
        for Found { field: (name, value), place, form } in found {
            let becomes = match wanted {
                None => Some(value.as_str()),
                Some(_) => rest
                    .iter()
                    .position(|(wanted, _)| wanted.eq_ignore_ascii_case(name))
                    .map(|at| rest.remove(at).1.as_str()),
            };
            if becomes == Some(value) && *form != (Form::Indexed { differs: true }) {
                continue;
            }
            out.extend_from_slice(&block[at..place.start]);
            at = place.end;
            match (form, becomes) {
                (Form::Indexed { .. } | Form::Literal, None) => {}
                (Form::Indexed { .. } | Form::Literal, Some(value)) => {
                    literal(name, value, &mut out);
                }
                (Form::Inserted { made, value: string, value_len }, Some(value))
                    if value.len() == *value_len =>
                {
                    out.extend_from_slice(&block[place.start..*string]);
                    string_of(value, &mut out);
                    replaced.push(*made);
                }
                (Form::Inserted { .. }, _) => return Err(Irreplaceable),
            }
        }
        out.extend_from_slice(&block[at..]);
        for (name, value) in rest {
            literal(&name.to_ascii_lowercase(), value, &mut out);
        }
        for made in replaced {
            self.mark(made);
        }
        Ok(out)
    }
}

impl Entry {
    fn size(&self) -> usize {
        self.name_len + self.value_len + ENTRY_OVERHEAD
    }
}

impl Found {
    /// The field, its name in lower case.
    pub(super) fn field(&self) -> &Field {
        &self.field
    }
}

/// A literal without indexing, not Huffman-coded (section 6.2.2).
fn literal(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(0);
    string_of(name, out);
    string_of(value, out);
}

fn string_of(text: &str, out: &mut Vec<u8>) {
    let mut len = text.len();
    if len < 0x7f {
        out.push(len as u8);
    } else {
        out.push(0x7f);
        len -= 0x7f;
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
    }
    out.extend_from_slice(text.as_bytes());
}

struct Name {
    len: usize,
    context: Option<smol_str::SmolStr>,
}

struct Reader<'b> {
    block: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// Section 5.1.
    fn integer(&mut self, prefix: u32) -> Result<usize, Broken> {
        let most = (1_usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        // No string or table is as long as four more bytes can say.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        let byte = self.block.get(self.at).ok_or(Broken)?;
        self.at += 1;
        Ok(*byte)
    }

    /// Section 5.2.
    fn string(&mut self) -> Result<Text<'b>, Broken> {
        let is_huffman = self.block.get(self.at).ok_or(Broken)? & 0x80 != 0;
        let len = self.integer(7)?;
        let end = self.at.checked_add(len).ok_or(Broken)?;
        let bytes = self.block.get(self.at..end).ok_or(Broken)?;
        self.at = end;
        Ok(Text { bytes, is_huffman })
    }

    fn name(&mut self) -> Result<Name, Broken> {
        /// Bytes that are kept: one more than the longest of interest.
        const START: usize = 18;
        let text = self.string()?;
        let (mut start, mut len) = ([0; START], 0);
        text.each(|byte| {
            if let Some(slot) = start.get_mut(len) {
                *slot = byte;
            }
            len += 1;
        })
        .ok_or(Broken)?;
        let start = &start[..len.min(START)];
        let context = is_context_field(start).then(|| String::from_utf8_lossy(start).into());
        Ok(Name { len, context })
    }
}

#[derive(Clone, Copy)]
struct Text<'b> {
    bytes: &'b [u8],
    is_huffman: bool,
}

impl Text<'_> {
    fn each(self, mut each: impl FnMut(u8)) -> Option<()> {
        if self.is_huffman {
            return huffman::decode(self.bytes, each);
        }
        self.bytes.iter().for_each(|byte| each(*byte));
        Some(())
    }

    fn len(self) -> Option<usize> {
        if !self.is_huffman {
            return Some(self.bytes.len());
        }
        let mut len = 0;
        self.each(|_| len += 1)?;
        Some(len)
    }

    fn text(self) -> Option<String> {
        let mut bytes = Vec::new();
        self.each(|byte| bytes.push(byte))?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests;
