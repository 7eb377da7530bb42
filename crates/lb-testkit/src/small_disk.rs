//! A file system that is soon full.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A file system of some size, gone with the value; `None` where the test may not mount one.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// `size` as `mount` takes it: `1m`, `256k`.
    pub fn mount(size: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path());
        let mounted = command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("skipped: no right to mount a small file system");
        }
        mounted.then(|| Self(folder))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The same as a folder of temporary files.
    pub fn folder(&self) -> &TempDir {
        &self.0
    }

    /// Lets it have another size.
    pub fn grow(&self, size: &str) {
        let grown =
            Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(self.path()).status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}
