//! Outputs that are no files, and outputs that cannot be written.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use latent_briefing::io::files::{Output, write_whole};

use crate::support::latent_briefing;

#[test]
#[cfg(unix)]
fn what_is_no_file_stays_what_it_is() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    // A device that takes no file's place: its number is that of /dev/zero.
    let device = dir.path().join("device");
    let made = Command::new("mknod").arg(&device).args(["c", "1", "5"]).stderr(Stdio::null()).status();
    if made.is_ok_and(|made| made.success()) {
        assert!(write_whole(&device, b"ledger").is_err());
        assert!(fs::metadata(&device).unwrap().file_type().is_char_device());
        let link = dir.path().join("link-to-device");
        symlink(&device, &link).unwrap();
        assert!(write_whole(&link, b"ledger").is_err());
    } else {
        eprintln!("devices are not tried: only root makes them");
    }
    assert!(write_whole(dir.path(), b"x").is_err(), "a folder");
    let missing = dir.path().join("no/such/folder/file");
    assert!(write_whole(&missing, b"x").is_err());
    // The null device takes everything, and stays.
    write_whole("/dev/null", b"x").unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    // A pipe is written to.
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reading = pipe.clone();
    let reader = std::thread::spawn(move || fs::read(reading).unwrap());
    write_whole(&pipe, b"through").unwrap();
    assert_eq!(reader.join().unwrap(), b"through");
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    // A link leads to its file and stays a link.
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    fs::write(&file, "before").unwrap();
    symlink(&file, &link).unwrap();
    write_whole(&link, b"after").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"after");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    // Nothing stays beside what was written or was not.
    let mut left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| name != "device" && name != "link-to-device");
    left.sort();
    assert_eq!(left, ["file", "link", "pipe"]);
}

#[test]
fn what_is_not_finished_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "before").unwrap();
    let output = Output::create(&path).unwrap();
    fs::write(output.path(), "half").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before");
    drop(output);
    assert_eq!(fs::read(&path).unwrap(), b"before");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// The answer is what a run was paid for: it is shown, and the exit code says that the ledger is not there.
#[test]
#[cfg(unix)]
fn a_ledger_that_cannot_be_written_costs_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    for ledger in ["/dev/full", "/", "/no/such/folder/ledger.json"] {
        let log = dir.path().join("log");
        let output =
            latent_briefing().args(["run", "--ledger", ledger]).arg("--log").arg(&log).output().unwrap();
        let (said, complained) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(said.contains("Vinereach"), "{ledger}: {said}");
        assert!(complained.contains(ledger), "{ledger}: {complained}");
        assert!(!output.status.success(), "{ledger}");
    }
    // A pipe and the standard output are written to.
    let mut child = latent_briefing()
        .args(["run", "--ledger", "/dev/stdout"])
        .arg("--log")
        .arg(dir.path().join("log"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(said.contains("Vinereach") && said.contains("\"worker\""), "{said}");
}
