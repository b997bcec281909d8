//! The resource of a span: which process of which service on which host.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::span::Value;

/// Identity of one resource within a run, for grouping spans on export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId(pub u64);

/// OpenTelemetry resource of one traced process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// Grouping key: equal ids mean equal attributes.
    pub id: ResourceId,
    /// `service.name`, repeated in `attributes`.
    pub service: String,
    /// All resource attributes; names are unique.
    pub attributes: Vec<(Cow<'static, str>, Value)>,
}
