//! Where in the hierarchy of control groups the redirect is attached.
//!
//! To the root, with the targets told apart in the kernel: a target is caught with its first
//! connection, wherever it runs and whatever was moved there meanwhile, and there is one place to
//! look at. Only if targets are selected by nothing but control groups it is attached to these,
//! and the programs do not even run for anybody else.

use std::fs;
use std::path::{Path, PathBuf};

use crate::capture::Groups;

/// Why there is nothing to attach to.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// Only version 1, or nothing.
    #[error(
        "propagation needs the cgroup version 2 hierarchy, and none is mounted (beside version 1 \
         it may be, too): `mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )]
    NotMounted,
    /// `/proc/self/cgroup` has no entry for it.
    #[error("the agent's own cgroup cannot be found in {0:?}; is /proc that of another namespace?")]
    OwnGroup(String),
}

/// Where to attach. `selected` are the directories of the cgroups by which targets are selected;
/// `by_groups_alone` says that they are by nothing else.
pub fn attachment(selected: &[PathBuf], by_groups_alone: bool) -> Result<Groups, AttachmentError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups(&mounts, &own, selected, by_groups_alone)
}

fn groups(
    mounts: &str,
    own: &str,
    selected: &[PathBuf],
    by_groups_alone: bool,
) -> Result<Groups, AttachmentError> {
    let root = mount_point(mounts).ok_or(AttachmentError::NotMounted)?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.filter(|path| path.starts_with('/') && !path.contains("/.."));
    let path = path.ok_or_else(|| AttachmentError::OwnGroup(own.trim().to_owned()))?;
    let depth = |group: &PathBuf| {
        let below = group.strip_prefix(&root).unwrap_or(Path::new(""));
        (group.clone(), below.components().count() as u32)
    };
    let attached = if by_groups_alone && !selected.is_empty() {
        outermost(selected)
    } else {
        vec![root.clone()]
    };
    Ok(Groups {
        attached,
        own: root.join(path.trim_start_matches('/')),
        selected: selected.iter().map(depth).collect(),
    })
}

/// Those that are within no other.
fn outermost(groups: &[PathBuf]) -> Vec<PathBuf> {
    let mut outermost: Vec<PathBuf> = Vec::new();
    for group in groups {
        if !outermost.iter().any(|outer| group.starts_with(outer)) {
            outermost.retain(|inner| !inner.starts_with(group));
            outermost.push(group.clone());
        }
    }
    outermost
}

fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (point, kind) = (fields.nth(1)?, fields.next()?);
        // Mount points stand there with their spaces escaped.
        (kind == "cgroup2").then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str =
        "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
    const ROOT: &str = "/sys/fs/cgroup/unified";

    #[test]
    fn attaches_to_the_root_unless_only_groups_are_selected() {
        let own = "4:memory:/x\n0::/system.slice/tracer.service\n";
        let shop = PathBuf::from(format!("{ROOT}/apps.slice/shop"));
        let found = groups(MOUNTS, own, &[], true).expect("groups");
        assert_eq!(found.attached, [PathBuf::from(ROOT)]);
        assert_eq!(found.own, Path::new(ROOT).join("system.slice/tracer.service"));
        let found = groups(MOUNTS, own, std::slice::from_ref(&shop), false).expect("groups");
        assert_eq!(found.attached, [PathBuf::from(ROOT)]);
        assert_eq!(found.selected, [(shop.clone(), 2)]);
        let found = groups(MOUNTS, own, std::slice::from_ref(&shop), true).expect("groups");
        assert_eq!(found.attached, std::slice::from_ref(&shop));
        let nested = [shop.join("a"), shop.clone(), shop.join("b"), shop.clone()];
        let found = groups(MOUNTS, own, &nested, true).expect("groups");
        assert_eq!(found.attached, [shop], "programs attached twice would run twice");
        assert_eq!(found.selected.len(), 4);
    }

    #[test]
    fn refuses_hosts_without_the_hierarchy() {
        let version_1 = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n";
        let refused = groups(version_1, "0::/\n", &[], false);
        assert!(matches!(refused, Err(AttachmentError::NotMounted)));
        let refused = groups(MOUNTS, "0::/../other\n", &[], false);
        assert!(matches!(refused, Err(AttachmentError::OwnGroup(_))));
    }
}
