//! What a program's own SDK publishes of its resource, for readers outside the process:
//! OpenTelemetry's process context (enhancement proposal 4719, version 2 of its header).
//!
//! A mapping named `OTEL_CTX` begins with a header, which says where in the process' memory a
//! protobuf message lies. The publisher sets the header's time to zero while it changes anything:
//! what is read between two sights of one other time is whole.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

use super::procfs::ProcessDir;
use crate::trace::Value;

/// Names that the mapping can have, by what the publisher's kernel let it do.
const MAPPINGS: [&str; 3] = ["[anon_shmem:OTEL_CTX]", "[anon:OTEL_CTX]", "/memfd:OTEL_CTX"];
const SIGNATURE: &[u8; 8] = b"OTEL_CTX";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 32;
/// Longest message that is read.
const MAX_PAYLOAD: u32 = 256 * 1024;
/// Attributes kept; beyond, the rest is left out.
const MAX_ATTRIBUTES: usize = 256;
/// Looks at a context that is being changed.
const LOOKS: usize = 3;

/// The attributes of the resource that a program's SDK works with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProcessContext {
    attributes: Vec<(String, Value)>,
}

/// `opentelemetry.proto.processcontext.v1development.ProcessContext`, as far as it is used.
#[derive(Clone, PartialEq, Message)]
struct Payload {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    payload_bytes: u32,
    published: u64,
    payload: u64,
}

impl ProcessContext {
    /// What the process publishes; `None` if it publishes nothing that can be understood.
    pub(super) fn read(process: &ProcessDir) -> Option<Self> {
        let mappings = process.mappings(|name| MAPPINGS.iter().any(|it| name.starts_with(it)));
        mappings.into_iter().find_map(|address| read_at(process, address))
    }

    /// Its attributes, whose names are unique.
    pub(super) fn attributes(&self) -> &[(String, Value)] {
        &self.attributes
    }

    /// The value of a text attribute.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let attribute = self.attributes.iter().find(|(known, _)| known == name);
        attribute.and_then(|(_, value)| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The SDK, by name, language and version.
    pub(super) fn sdk(&self) -> String {
        let parts = ["telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version"];
        let parts: Vec<&str> = parts.iter().filter_map(|name| self.text(name)).collect();
        if parts.is_empty() { "an SDK".to_owned() } else { parts.join(" ") }
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let resource = Payload::decode(payload).ok()?.resource.unwrap_or_default();
        let mut attributes: Vec<(String, Value)> = Vec::new();
        for KeyValue { key, value, .. } in resource.attributes {
            let known = attributes.iter().any(|(name, _)| *name == key);
            if known || key.is_empty() || attributes.len() >= MAX_ATTRIBUTES {
                continue;
            }
            if let Some(value) = value.and_then(plain) {
                attributes.push((key, value));
            }
        }
        Some(Self { attributes })
    }
}

fn read_at(process: &ProcessDir, address: u64) -> Option<ProcessContext> {
    for _ in 0..LOOKS {
        let header = Header::read(process, address)?;
        if header.published == 0 || header.payload_bytes > MAX_PAYLOAD {
            continue;
        }
        let payload = process.memory(header.payload, header.payload_bytes as usize);
        if Header::read(process, address)? == header {
            return ProcessContext::decode(&payload?);
        }
    }
    None
}

impl Header {
    fn read(process: &ProcessDir, address: u64) -> Option<Self> {
        let bytes = process.memory(address, HEADER_BYTES)?;
        let (signature, rest) = bytes.split_first_chunk::<8>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (payload_bytes, rest) = rest.split_first_chunk::<4>()?;
        let (published, rest) = rest.split_first_chunk::<8>()?;
        let (payload, _) = rest.split_first_chunk::<8>()?;
        let valid = signature == SIGNATURE && u32::from_ne_bytes(*version) == VERSION;
        valid.then(|| Self {
            payload_bytes: u32::from_ne_bytes(*payload_bytes),
            published: u64::from_ne_bytes(*published),
            payload: u64::from_ne_bytes(*payload),
        })
    }
}

/// The value as spans' resources can carry it.
fn plain(value: AnyValue) -> Option<Value> {
    Some(match value.value? {
        any_value::Value::StringValue(text) => Value::Text(text.into()),
        any_value::Value::BoolValue(value) => Value::Bool(value),
        any_value::Value::IntValue(value) => Value::Int(value),
        any_value::Value::DoubleValue(value) => Value::Double(value),
        any_value::Value::ArrayValue(array) => {
            let texts = array.values.into_iter().map(|value| match value.value {
                Some(any_value::Value::StringValue(text)) => Some(text),
                _ => None,
            });
            Value::TextList(texts.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::ArrayValue;
    use proptest::prelude::*;

    use super::*;
    use crate::event::Pid;
    use crate::target::testing::FakeHost;

    const ADDRESS: u64 = 0x7000;
    const PAYLOAD: u64 = 0x9100;

    fn text(text: &str) -> any_value::Value {
        any_value::Value::StringValue(text.to_owned())
    }

    fn payload(attributes: Vec<(&str, any_value::Value)>) -> Vec<u8> {
        let attributes = attributes.into_iter().map(|(key, value)| KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
        let resource = Resource { attributes: attributes.collect(), ..Resource::default() };
        Payload { resource: Some(resource) }.encode_to_vec()
    }

    fn header(signature: [u8; 8], version: u32, length: u32, published: u64) -> Vec<u8> {
        let mut header = signature.to_vec();
        header.extend(version.to_ne_bytes());
        header.extend(length.to_ne_bytes());
        header.extend(published.to_ne_bytes());
        header.extend(PAYLOAD.to_ne_bytes());
        header
    }

    fn read(mapping: &str, header: &[u8], payload: &[u8]) -> Option<ProcessContext> {
        let host = FakeHost::new();
        let maps = format!(
            "5000-6000 r-xp 00000000 fe:00 12  /usr/bin/python3.11\n\
             {ADDRESS:x}-8000 rw-p 00000000 00:01 1016  {mapping}\n\
             9000-a000 rw-p 00000000 00:00 0 \n"
        );
        host.process(7).file("maps", &maps).memory(&[(ADDRESS, header), (PAYLOAD, payload)]);
        ProcessContext::read(&host.fs().process(Pid(7)))
    }

    #[test]
    fn a_published_resource_is_read_whatever_the_mapping_is_called() {
        let payload = payload(vec![
            ("service.name", text("shop")),
            ("telemetry.sdk.name", text("opentelemetry")),
            ("telemetry.sdk.language", text("python")),
            ("process.pid", any_value::Value::IntValue(1)),
            (
                "tags",
                any_value::Value::ArrayValue(ArrayValue {
                    values: vec![AnyValue { value: Some(text("a")) }],
                }),
            ),
            ("service.name", text("a second one")),
            ("nothing", any_value::Value::BytesValue(vec![1])),
        ]);
        let header = header(*SIGNATURE, VERSION, payload.len() as u32, 5);
        for mapping in ["/memfd:OTEL_CTX (deleted)", "[anon:OTEL_CTX]", "[anon_shmem:OTEL_CTX]"] {
            let context = read(mapping, &header, &payload).expect(mapping);
            let expected = [
                ("service.name", Value::Text("shop".into())),
                ("telemetry.sdk.name", Value::Text("opentelemetry".into())),
                ("telemetry.sdk.language", Value::Text("python".into())),
                ("process.pid", Value::Int(1)),
                ("tags", Value::TextList(vec!["a".into()])),
            ];
            let expected = expected.map(|(name, value)| (name.to_owned(), value));
            assert_eq!(context.attributes(), expected, "{mapping}");
            assert_eq!(context.sdk(), "opentelemetry python");
        }
        assert_eq!(read("/memfd:OTHER_CTX (deleted)", &header, &payload), None);
    }

    #[test]
    fn what_is_not_valid_or_not_complete_is_nothing() {
        let payload = payload(vec![("service.name", text("shop"))]);
        let length = payload.len() as u32;
        let rows = [
            ("signature", header(*b"OTEL_CTZ", VERSION, length, 5)),
            ("version", header(*SIGNATURE, 1, length, 5)),
            ("being changed", header(*SIGNATURE, VERSION, length, 0)),
            ("too long", header(*SIGNATURE, VERSION, MAX_PAYLOAD + 1, 5)),
            ("payload beyond what is mapped", header(*SIGNATURE, VERSION, 100_000, 5)),
            ("payload cut", header(*SIGNATURE, VERSION, length - 1, 5)),
            ("header cut", header(*SIGNATURE, VERSION, length, 5)[..20].to_vec()),
        ];
        for (what, header) in rows {
            let context = read("[anon:OTEL_CTX]", &header, &payload);
            assert_eq!(context, None, "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_is_too_strange(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ProcessContext::decode(&payload);
        }
    }
}
