//! A protobuf message under construction: fields are appended in the order they are written.

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};

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

    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        encode_key(field, WireType::LengthDelimited, &mut self.0);
        encode_varint(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// Any of the plain integer types, `bool` and enumerations; negative ones sign-extended.
    pub(super) fn number(&mut self, field: u32, number: u64) {
        encode_key(field, WireType::Varint, &mut self.0);
        encode_varint(number, &mut self.0);
    }

    pub(super) fn fixed32(&mut self, field: u32, number: u32) {
        encode_key(field, WireType::ThirtyTwoBit, &mut self.0);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(super) fn fixed64(&mut self, field: u32, number: u64) {
        encode_key(field, WireType::SixtyFourBit, &mut self.0);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// A message inside this one, written by `write` in place.
    pub(super) fn embed(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        encode_key(field, WireType::LengthDelimited, &mut self.0);
        // Most embedded messages are short: leave one byte for the length, and move the content
        // in the rare case that it takes more.
        let length_at = self.0.len();
        self.0.push(0);
        write(self);
        let length = self.0.len() - length_at - 1;
        match u8::try_from(length) {
            Ok(short) if short < 0x80 => self.0[length_at] = short,
            _ => {
                let mut varint = Vec::with_capacity(10);
                encode_varint(length as u64, &mut varint);
                self.0.splice(length_at..=length_at, varint);
            }
        }
    }
}
