//! What a head's fields say about its body, and those of them that are kept.
//!
//! Must not know how fields are told apart.

use super::framing::FramingFields;
use super::head::Parsed;
use crate::exchange::{Field, HeaderInterest, HttpVersion, RequestHead, ResponseHead};
use crate::protocol::fields::{asked_name, built_in_name, text};

/// The fields of a head, taken in order.
pub(super) struct Fields<'i> {
    framing: FramingFields,
    kept: Vec<Field>,
    /// Names kept beside the built-in ones.
    asked: &'i [String],
    /// Whether there are built-in ones.
    built_in: bool,
}

impl<'i> Fields<'i> {
    pub(super) fn of_request(interest: &'i HeaderInterest) -> Self {
        let (framing, kept) = (FramingFields::default(), Vec::new());
        Self { framing, kept, asked: &interest.request, built_in: true }
    }

    pub(super) fn of_response(interest: &'i HeaderInterest) -> Self {
        let (framing, kept) = (FramingFields::default(), Vec::new());
        Self { framing, kept, asked: &interest.response, built_in: false }
    }

    #[inline]
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => self.framing.add_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.framing.add_codings(value);
            }
            _ => {}
        }
        let kept_as = if self.built_in { built_in_name(name) } else { None };
        if let Some(name) = kept_as.or_else(|| asked_name(name, self.asked)) {
            self.kept.push((name, text(value.trim_ascii())));
        }
    }

    pub(super) fn into_request(
        self,
        method: &str,
        target: &str,
        version: HttpVersion,
        len: usize,
    ) -> Parsed<RequestHead> {
        let head = RequestHead {
            method: method.into(),
            target: target.into(),
            version,
            gateway: None,
            headers: self.kept,
        };
        Parsed { framing: self.framing.request_framing(), head, len }
    }

    pub(super) fn into_response(
        self,
        status: u16,
        version: HttpVersion,
        len: usize,
    ) -> Parsed<ResponseHead> {
        let head = ResponseHead { status, version, headers: self.kept };
        Parsed { framing: self.framing.response_framing(), head, len }
    }
}
