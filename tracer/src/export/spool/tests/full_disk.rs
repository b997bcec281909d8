//! A file system without room: a small tmpfs, in a mount namespace of its own, which needs root.

use std::process::Command;

use super::*;

const DIRECTORY: &str = "TRACER_TEST_FULL_SPOOL";

/// The child: fills its disk, and finds everything that it could write.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let mut spool = open(&directory.join("spool"), ROOMY);
    let mut put = Vec::new();
    let error = loop {
        let mark = u8::try_from(put.len() + 1).unwrap();
        match spool.append(&vec![mark; 30_000], 1).outcome {
            Ok(()) => put.push(mark),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(put.len() > 10);
    assert_eq!(spool.spans(), put.len() as u64);
    // Somebody else takes what is left, to the last page; then nothing can be begun either.
    let _ = fs::write(directory.join("other"), vec![0; 1 << 20]);
    spool.append(&vec![0; 30_000], 1).outcome.unwrap_err();

    // A restart on a full disk, and room again after a delivery.
    drop(spool);
    let mut spool = open(&directory.join("spool"), ROOMY);
    assert_eq!(spool.spans(), put.len() as u64);
    spool.append(&vec![0; 30_000], 1).outcome.unwrap_err();
    fs::remove_file(directory.join("other")).unwrap();
    let half = put.len() / 2;
    for mark in &put[..half] {
        assert_eq!(deliver(&mut spool), Some(*mark));
    }
    fs::write(directory.join("other"), vec![0; 1]).unwrap();
    drop(spool);
    let mut spool = open(&directory.join("spool"), ROOMY);
    assert_eq!(deliver_all(&mut spool), put[half..]);
    append(&mut spool, 200, 30_000);
    assert_eq!(deliver_all(&mut spool), [200]);
    println!("filled and emptied");
}

#[test]
fn a_full_disk_refuses_requests_and_loses_none() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting a small file system needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$1" && exec "$2" --exact --nocapture "$3""#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .arg("export::spool::tests::full_disk::child")
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains("filled and emptied"), "{output:?}");
}
