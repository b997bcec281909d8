//! `service.name`: who says what a process is called, strongest first.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::container::Container;
use super::program::ProgramName;

/// Where a `service.name` came from; the order of the variants is their precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceNameSource {
    /// The process's own SDK, which publishes its resource as process context.
    ProcessContext,
    /// The process's own `OTEL_SERVICE_NAME`.
    OtelServiceName,
    /// `service.name` in the process's own `OTEL_RESOURCE_ATTRIBUTES`.
    OtelResourceAttributes,
    /// The container's Compose service or name, the pod's workload, or a chosen host name.
    Container,
    /// The systemd unit.
    SystemdUnit,
    /// The script, module, jar or application that an interpreter runs, or the process's title.
    Program,
    /// The executable's file name.
    Executable,
    /// The kernel's short name of the process: nothing better could be read before it was gone.
    Comm,
    /// Nothing is known of the process.
    Unknown,
}

impl fmt::Display for ServiceNameSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ProcessContext => "process context",
            Self::OtelServiceName => "OTEL_SERVICE_NAME",
            Self::OtelResourceAttributes => "OTEL_RESOURCE_ATTRIBUTES",
            Self::Container => "container",
            Self::SystemdUnit => "systemd unit",
            Self::Program => "program",
            Self::Executable => "executable",
            Self::Comm => "short name",
            Self::Unknown => "unknown",
        })
    }
}

/// Everything that might name a service.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence<'a> {
    pub(super) process_context: Option<&'a str>,
    pub(super) otel_service_name: Option<&'a str>,
    pub(super) resource_attributes: &'a [(String, String)],
    pub(super) container: Option<&'a Container>,
    pub(super) unit: Option<&'a str>,
    pub(super) program: Option<&'a ProgramName>,
}

impl Evidence<'_> {
    /// The name and who gave it.
    pub(super) fn service_name(&self) -> (String, ServiceNameSource) {
        use ServiceNameSource as Source;
        let attribute = self.resource_attributes.iter().find(|(key, _)| key == "service.name");
        let stated = [
            (self.process_context, Source::ProcessContext),
            (self.otel_service_name, Source::OtelServiceName),
            (attribute.map(|(_, value)| &**value), Source::OtelResourceAttributes),
            (self.container.and_then(|found| found.service.as_deref()), Source::Container),
            (self.unit, Source::SystemdUnit),
        ];
        let stated = stated
            .into_iter()
            .find_map(|(name, source)| Some((name.filter(|name| !name.is_empty())?, source)));
        let (name, source) = match (stated, self.program) {
            (Some(stated), _) => stated,
            (None, Some(ProgramName::Script(name))) => (&**name, Source::Program),
            (None, Some(ProgramName::Executable(name))) => (&**name, Source::Executable),
            (None, Some(ProgramName::Comm(name))) => (&**name, Source::Comm),
            (None, None) => ("unknown_service", Source::Unknown),
        };
        (name.to_owned(), source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_evidence_names_the_service() {
        let container =
            Container { id: "i".into(), name: None, service: Some("from-container".into()) };
        let attributes = [("service.name".to_owned(), "from-attributes".to_owned())];
        let program = ProgramName::Script("from-script".into());
        let mut evidence = Evidence {
            process_context: Some("from-context"),
            otel_service_name: Some("from-name"),
            resource_attributes: &attributes,
            container: Some(&container),
            unit: Some("from-unit"),
            program: Some(&program),
        };
        let mut expect = |weaken: fn(&mut Evidence<'_>), name: &str, source| {
            assert_eq!(evidence.service_name(), (name.to_owned(), source));
            weaken(&mut evidence);
        };
        expect(|e| e.process_context = None, "from-context", ServiceNameSource::ProcessContext);
        expect(|e| e.otel_service_name = None, "from-name", ServiceNameSource::OtelServiceName);
        expect(
            |e| e.resource_attributes = &[],
            "from-attributes",
            ServiceNameSource::OtelResourceAttributes,
        );
        expect(|e| e.container = None, "from-container", ServiceNameSource::Container);
        expect(|e| e.unit = None, "from-unit", ServiceNameSource::SystemdUnit);
        expect(|e| e.program = None, "from-script", ServiceNameSource::Program);
        expect(|_| {}, "unknown_service", ServiceNameSource::Unknown);
    }
}
