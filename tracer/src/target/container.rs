//! The container around a process: its id, and the name people gave it.

use serde::Deserialize;

use super::cgroup;
use super::{Host, HostFs};

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    /// `container.id`
    pub(super) id: String,
    /// `container.name`
    pub(super) name: Option<String>,
    /// What its services would be called by those who deployed it.
    pub(super) service: Option<String>,
}

/// The part of Docker's own description of a container that names it. Its environment, which may
/// hold secrets, stands in the same file and is not deserialized.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    name: Option<String>,
    config: Option<DockerContainerConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerContainerConfig {
    labels: Option<DockerLabels>,
}

#[derive(Deserialize)]
struct DockerLabels {
    #[serde(rename = "com.docker.compose.service")]
    compose_service: Option<String>,
}

impl Container {
    /// From the contents of `/proc/PID/cgroup` and the process's `HOSTNAME`.
    ///
    /// The service is the Compose service or the container's name where Docker keeps them, else
    /// the workload of a Kubernetes pod (whose name `HOSTNAME` is), else a `HOSTNAME` that somebody
    /// chose. A container that was given no name has a service named by its program: a random id
    /// would be another service at each deployment.
    pub(super) fn find(
        fs: &HostFs,
        host: &Host,
        cgroups: &str,
        hostname: Option<&str>,
    ) -> Option<Self> {
        let id = cgroup::container_id(cgroups)?;
        let chosen =
            hostname.filter(|&name| !id.starts_with(name) && host.name.as_deref() != Some(name));
        let (name, compose_service) = docker(fs, &id).unwrap_or_default();
        let service = compose_service.or_else(|| name.clone()).or_else(|| {
            let chosen = chosen?;
            let workload =
                if cgroup::is_kubernetes_pod(cgroups) { workload(chosen) } else { chosen };
            Some(workload.to_owned())
        });
        Some(Self { id, name, service })
    }
}

/// Name and Compose service of a Docker container.
fn docker(fs: &HostFs, id: &str) -> Option<(Option<String>, Option<String>)> {
    let text = fs.read(&format!("/var/lib/docker/containers/{id}/config.v2.json"))?;
    let config: DockerConfig = serde_json::from_str(&text).ok()?;
    let name = config.name.map(|name| name.trim_start_matches('/').to_owned());
    let service = config.config.and_then(|config| config.labels?.compose_service);
    Some((name.filter(|name| !name.is_empty()), service))
}

/// The workload that made a pod: `shop-7d9c5b6f7d-x2x4z` (deployment), `shop-x2x4z` (daemon set,
/// job) and `db-0` (stateful set) without what was appended.
fn workload(pod: &str) -> &str {
    /// Letters Kubernetes makes random names of: no vowels, so that no words come out.
    const RANDOM: &str = "bcdfghjklmnpqrstvwxz2456789";
    let random = |part: &str| part.chars().all(|c| RANDOM.contains(c));
    let Some((rest, last)) = pod.rsplit_once('-') else { return pod };
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return rest;
    }
    if last.len() != 5 || !random(last) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((name, hash)) if (8..=10).contains(&hash.len()) && random(hash) => name,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::testing::FakeHost;

    const ID: &str = "8c6f3f5b7a0d4e1c9b2a6d5e4f3c2b1a0f9e8d7c6b5a49382716051423324150";

    fn find(host: &FakeHost, cgroup: &str, hostname: &str) -> Option<Container> {
        let cgroups = format!("0::{cgroup}\n");
        Container::find(&host.fs(), &Host::read(&host.fs()), &cgroups, Some(hostname))
    }

    fn service(host: &FakeHost, cgroup: &str, hostname: &str) -> Option<String> {
        find(host, cgroup, hostname).expect("a container").service
    }

    #[test]
    fn docker_knows_names() {
        let host = FakeHost::new();
        let config = format!("/var/lib/docker/containers/{ID}/config.v2.json");
        let docker = format!("/docker/{ID}");
        host.file(&config, r#"{"Name":"/shop-web-1","Config":{"Env":["S=x"],"Labels":{}}}"#);
        let container = find(&host, &docker, &ID[..12]).expect("a container");
        assert_eq!(container.name.as_deref(), Some("shop-web-1"));
        assert_eq!(container.service.as_deref(), Some("shop-web-1"));
        let labels = r#"{"com.docker.compose.service":"web"}"#;
        let text = format!(r#"{{"Name":"/shop-web-1","Config":{{"Labels":{labels}}}}}"#);
        host.file(&config, &text);
        assert_eq!(service(&host, &docker, "x").as_deref(), Some("web"));
        host.file(&config, "not json");
        assert_eq!(service(&host, &docker, &ID[..12]), None);
    }

    #[test]
    fn a_chosen_host_name_names_the_container_and_a_random_one_does_not() {
        let host = FakeHost::new();
        let podman = format!("/machine.slice/libpod-{ID}.scope");
        assert_eq!(service(&host, &podman, "shop").as_deref(), Some("shop"));
        assert_eq!(service(&host, &podman, &ID[..12]), None);
        assert_eq!(service(&host, &podman, "web-1"), None, "the host's own name");
        assert_eq!(find(&host, "/system.slice/nginx.service", "shop"), None);
    }

    #[test]
    fn pods_are_named_by_their_workload() {
        let host = FakeHost::new();
        let pod = format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope");
        assert_eq!(service(&host, &pod, "shop-7d9c5b6f7d-x2x4z").as_deref(), Some("shop"));
        for (name, expected) in [
            ("shop-web-7d9c5b6f7d-x2x4z", "shop-web"),
            ("agent-x2x4z", "agent"),
            ("db-0", "db"),
            ("shop-green", "shop-green"),
            ("shop", "shop"),
        ] {
            assert_eq!(workload(name), expected);
        }
    }
}
