//! A full disk: an error, and nothing half there.

use std::path::Path;
use std::process::{Command, Stdio};

use lb_store::ObjectKind::Briefing;
use lb_store::{Error, Store, StoreOptions};
use tempfile::TempDir;

use crate::support::{about, body, files, fingerprint, journal, open, tenant};

/// A file system of 4 MB, gone with the value.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path());
        let mounted = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: no right to mount a small file system");
        }
        mounted.then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(self.path()).status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_store_on_a_full_disk_keeps_what_it_has() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (store, into) = (open(disk.path()), TempDir::new().unwrap());
    let id = store.put(Briefing, &about(), body(1, 1 << 20)).await.unwrap();
    store.append(&journal("j"), 0, b"record").await.unwrap();
    let before = files(disk.path());
    // In one piece, and in several.
    for len in [5 << 20, 20 << 20] {
        let put = store.put(Briefing, &about(), body(2, len)).await;
        assert!(matches!(put, Err(Error::Backend { .. })), "{put:?}");
        // An upload that was given up is cleared away in the background.
        for _ in 0..100 {
            if files(disk.path()) == before {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(files(disk.path()), before);
    }
    let appended = store.append(&journal("j"), 1, &body(3, 4 << 20)).await;
    assert!(matches!(appended, Err(Error::Backend { .. })), "{appended:?}");
    assert_eq!(store.read_journal(&journal("j"), 0).await.unwrap().len(), 1);
    store.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await.unwrap();
    assert_eq!(store.find(Briefing, &tenant()).await.unwrap().manifests.len(), 1);

    disk.grow();
    let id = store.put(Briefing, &about(), body(2, 20 << 20)).await.unwrap();
    store.append(&journal("j"), 1, &body(3, 4 << 20)).await.unwrap();
    store.get(Briefing, &tenant(), &id, &fingerprint(), into.path()).await.unwrap();
}

#[tokio::test]
async fn fetching_to_a_full_disk_leaves_nothing_there() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = Store::open("memory:", StoreOptions::default()).unwrap();
    let id = store.put(Briefing, &about(), body(1, 5 << 20)).await.unwrap();
    let got = store.get(Briefing, &tenant(), &id, &fingerprint(), disk.path()).await;
    match got {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::StorageFull),
        got => panic!("{got:?}"),
    }
    assert!(files(disk.path()).is_empty());
    disk.grow();
    store.get(Briefing, &tenant(), &id, &fingerprint(), disk.path()).await.unwrap();
}
