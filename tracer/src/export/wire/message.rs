//! A protobuf message under construction: fields are appended in the order they are written.

use bytes::Bytes;
use prost::encoding::{WireType, encode_varint, encoded_len_varint};

/// Numbers below it are varints of one byte.
const ONE_BYTE: u64 = 0x80;

/// Key of a message in field 2.
const SECOND: u8 = key(2, WireType::LengthDelimited) as u8;

/// Encoded fields, without the length that an enclosing message puts before them.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0.into()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends fields that are already encoded.
    pub(super) fn append(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }

    #[inline]
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.embed_head(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    #[inline]
    pub(super) fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// Any of the plain integer types, `bool` and enumerations; negative ones sign-extended.
    #[inline]
    pub(super) fn number(&mut self, field: u32, number: u64) {
        self.key(field, WireType::Varint);
        self.varint(number);
    }

    pub(super) fn fixed32(&mut self, field: u32, number: u32) {
        self.key(field, WireType::ThirtyTwoBit);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn fixed64(&mut self, field: u32, number: u64) {
        self.key(field, WireType::SixtyFourBit);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A message inside this one, written by `write` in place.
    pub(super) fn embed(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, WireType::LengthDelimited);
        // Most embedded messages are short: leave one byte for the length, and move the content
        // in the rare case that it takes more.
        let length_at = self.0.len();
        self.0.push(0);
        write(self);
        let length = self.0.len() - length_at - 1;
        if length < ONE_BYTE as usize {
            self.0[length_at] = length as u8;
            return;
        }
        let content_at = length_at + encoded_len_varint(length as u64);
        self.0.resize(content_at + length, 0);
        self.0.copy_within(length_at + 1..length_at + 1 + length, content_at);
        encode_varint(length as u64, &mut &mut self.0[length_at..content_at]);
    }

    /// A message of a text field 1, and a field 2 that is a message of a text field 1; what
    /// attributes of text are. False, and nothing done, if that takes a length of two bytes.
    ///
    /// Most of a usual span is such pairs. Written with all lengths known beforehand instead of
    /// field by field, they save a seventh of what exporting the span takes.
    #[inline]
    pub(super) fn short_text_pair(&mut self, field: u32, first: &str, second: &str) -> bool {
        const TEXT: u8 = key(1, WireType::LengthDelimited) as u8;
        let inner = 2 + second.len();
        if !self.short_pair_head(field, first, inner) {
            return false;
        }
        self.0.extend_from_slice(&[SECOND, inner as u8, TEXT, second.len() as u8]);
        self.0.extend_from_slice(second.as_bytes());
        true
    }

    /// The same, but that the message in field 2 is of a number in field 3.
    #[inline]
    pub(super) fn short_number_pair(&mut self, field: u32, first: &str, number: u64) -> bool {
        const NUMBER: u8 = key(3, WireType::Varint) as u8;
        let inner = 1 + encoded_len_varint(number);
        if !self.short_pair_head(field, first, inner) {
            return false;
        }
        self.0.extend_from_slice(&[SECOND, inner as u8, NUMBER]);
        self.varint(number);
        true
    }

    /// The beginning of a message up to its field 2, which is to be a message of `inner` bytes.
    #[inline]
    fn short_pair_head(&mut self, field: u32, first: &str, inner: usize) -> bool {
        const FIRST: u8 = key(1, WireType::LengthDelimited) as u8;
        let key = key(field, WireType::LengthDelimited);
        let outer = 2 + first.len() + 2 + inner;
        if key >= ONE_BYTE || outer >= ONE_BYTE as usize {
            return false;
        }
        self.0.extend_from_slice(&[key as u8, outer as u8, FIRST, first.len() as u8]);
        self.0.extend_from_slice(first.as_bytes());
        true
    }

    /// A message inside this one, made of fields that are already encoded.
    pub(super) fn embed_fields(&mut self, field: u32, fields: &[&[u8]]) {
        self.embed_head(field, fields.iter().map(|fields| fields.len()).sum());
        for fields in fields {
            self.append(fields);
        }
    }

    /// The beginning of a message inside this one, whose `length` bytes are to be appended next.
    #[inline]
    pub(super) fn embed_head(&mut self, field: u32, length: usize) {
        let key = key(field, WireType::LengthDelimited);
        if key < ONE_BYTE && length < ONE_BYTE as usize {
            self.0.extend_from_slice(&[key as u8, length as u8]);
        } else {
            self.varint(key);
            self.varint(length as u64);
        }
    }

    #[inline]
    fn key(&mut self, field: u32, wire_type: WireType) {
        self.varint(key(field, wire_type));
    }

    #[inline]
    fn varint(&mut self, mut number: u64) {
        while number >= ONE_BYTE {
            self.0.push(number as u8 | ONE_BYTE as u8);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

const fn key(field: u32, wire_type: WireType) -> u64 {
    (field << 3 | wire_type as u32) as u64
}
