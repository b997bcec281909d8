//! The OpenTelemetry resource of a process, attribute by attribute.
//!
//! Command lines hold passwords, so `process.command_args` and `process.command_line` are not
//! exported at all; see [`command`] for what is.

use std::borrow::Cow;
use std::path::Path;

use smol_str::SmolStr;
use uuid::{Uuid, uuid};

use super::clock::rfc3339;
use super::container::Container;
use super::program::Runtime;
use super::{Host, StartTicks};
use crate::event::Pid;
use crate::trace::{Resource, ResourceId, Value};

/// Namespace that the OpenTelemetry conventions give for `service.instance.id`.
const INSTANCE_NAMESPACE: Uuid = uuid!("4d63009a-8d0f-11ee-aad7-4c796ed8e320");

/// What is known of a process, ready to be written down.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) pid: Pid,
    pub(super) started: Option<StartTicks>,
    /// Wall-clock nanoseconds of the start.
    pub(super) created: Option<u64>,
    pub(super) service: String,
    pub(super) executable: Option<&'a Path>,
    pub(super) executable_name: Option<&'a str>,
    /// The zeroth argument.
    pub(super) command: Option<&'a str>,
    pub(super) owner: Option<u32>,
    pub(super) runtime: Option<Runtime>,
    pub(super) container: Option<&'a Container>,
    /// What the process states of itself, strongest first; wins over what was observed.
    pub(super) stated: Vec<(String, Value)>,
}

impl Facts<'_> {
    /// A process of which only this is known.
    pub(super) fn new(pid: Pid, service: String) -> Self {
        Self {
            pid,
            started: None,
            created: None,
            service,
            executable: None,
            executable_name: None,
            command: None,
            owner: None,
            runtime: None,
            container: None,
            stated: Vec::new(),
        }
    }

    /// All attributes; names are unique.
    pub(super) fn resource(self, id: ResourceId, host: &Host) -> Resource {
        let mut attributes = Attributes::default();
        let language = self.runtime.and_then(Runtime::language);
        // First come what nobody may override, then what the process states of itself.
        attributes.put("service.name", Some(self.service.clone()));
        attributes.put("telemetry.sdk.name", Some("tracer"));
        attributes.put("telemetry.sdk.language", Some(language.unwrap_or("generic")));
        attributes.put("telemetry.sdk.version", Some(env!("CARGO_PKG_VERSION")));
        attributes.put("telemetry.distro.name", Some("tracer"));
        attributes.put("telemetry.distro.version", Some(env!("CARGO_PKG_VERSION")));
        for (key, value) in self.stated {
            attributes.put_value(Cow::Owned(key), value);
        }
        attributes.put("service.instance.id", Some(instance_id(host, self.pid, self.started)));
        attributes.put_value("process.pid", Value::Int(i64::from(self.pid.0)));
        attributes.put("process.creation.time", self.created.map(rfc3339));
        attributes.put("process.executable.name", self.executable_name.map(str::to_owned));
        let executable = self.executable.map(|path| path.to_string_lossy().into_owned());
        attributes.put("process.executable.path", executable);
        attributes.put("process.command", self.command.and_then(|it| command(it, self.executable)));
        // A container has users of its own, whose names the host does not know.
        let names = Some(&host.users).filter(|_| self.container.is_none());
        let owner = self.owner.map(|uid| match names.and_then(|names| names.get(&uid)) {
            Some(name) => name.clone(),
            None => uid.to_string(),
        });
        attributes.put("process.owner", owner);
        attributes.put("process.runtime.name", self.runtime.and_then(Runtime::name));
        attributes.put("container.id", self.container.map(|container| container.id.clone()));
        attributes
            .put("container.name", self.container.and_then(|container| container.name.clone()));
        attributes.put("host.name", host.name.clone());
        attributes.put("host.id", host.id.clone());
        attributes.put("host.arch", Some(host.arch).filter(|arch| !arch.is_empty()));
        attributes.put("os.type", Some("linux"));
        attributes.put("os.name", host.os_name.clone());
        attributes.put("os.version", host.os_version.clone());
        attributes.put("os.description", host.os_description.clone());
        Resource { id, service: self.service, attributes: attributes.0 }
    }
}

/// Attributes with unique names: the first value of a name stays.
#[derive(Default)]
struct Attributes(Vec<(Cow<'static, str>, Value)>);

impl Attributes {
    fn put(&mut self, name: impl Into<Cow<'static, str>>, text: Option<impl Into<SmolStr>>) {
        if let Some(text) = text {
            self.put_value(name, Value::Text(text.into()));
        }
    }

    fn put_value(&mut self, name: impl Into<Cow<'static, str>>, value: Value) {
        let name = name.into();
        if !self.0.iter().any(|(known, _)| *known == name) {
            self.0.push((name, value));
        }
    }
}

/// The same for one process whichever agent looks at it and when, another for any other process of
/// any host and boot. Random where host or start are unknown.
fn instance_id(host: &Host, pid: Pid, started: Option<StartTicks>) -> String {
    let inherent = || {
        let (host, boot) = (host.id.as_deref()?, host.boot_id.as_deref()?);
        Some(format!("{host}/{boot}/{}/{}", pid.0, started?.0))
    };
    let id = inherent().map_or_else(Uuid::new_v4, |identity| {
        Uuid::new_v5(&INSTANCE_NAMESPACE, identity.as_bytes())
    });
    id.to_string()
}

/// `process.command`: the zeroth argument, if it is a plain program name or path.
///
/// A program may have written its whole command line, passwords included, into it: then only the
/// first word counts, and not even that if it could be an assignment or an address.
fn command(zeroth: &str, executable: Option<&Path>) -> Option<String> {
    if executable.is_some_and(|path| path == Path::new(zeroth)) {
        return Some(zeroth.to_owned());
    }
    let word = zeroth.split_whitespace().next()?.trim_end_matches(':');
    let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    (!word.is_empty() && word.chars().all(plain)).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_ids_are_stable_and_distinct() {
        let host = Host { id: Some("h".into()), boot_id: Some("b".into()), ..Host::default() };
        let id = |pid, ticks| instance_id(&host, Pid(pid), Some(StartTicks(ticks)));
        assert_eq!(id(1, 2), id(1, 2));
        assert_ne!(id(1, 2), id(1, 3));
        assert_ne!(id(1, 2), id(2, 2));
        let parsed = Uuid::parse_str(&id(1, 2)).expect("a UUID");
        assert_eq!(parsed.get_version_num(), 5);
        assert_ne!(instance_id(&host, Pid(1), None), instance_id(&host, Pid(1), None));
    }

    #[test]
    fn commands_are_programs_and_nothing_else() {
        let path = Path::new("/opt/My App/feed");
        assert_eq!(command("/opt/My App/feed", Some(path)).as_deref(), Some("/opt/My App/feed"));
        assert_eq!(command("./feed", Some(path)).as_deref(), Some("./feed"));
        assert_eq!(command("nginx: worker process", None).as_deref(), Some("nginx"));
        assert_eq!(command("celery --broker=amqp://u:p@h", None).as_deref(), Some("celery"));
        assert_eq!(command("PASSWORD=x feed", None), None);
        assert_eq!(command("amqp://u:p@h", None), None);
        assert_eq!(command("", None), None);
    }
}
