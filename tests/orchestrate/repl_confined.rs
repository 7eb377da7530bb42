//! What the process of a session has given up: descriptors, privileges, system calls, a life beyond its host's.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use latent_briefing::sandbox::{CPythonConfig, CPythonRepl, MontyConfig, MontyRepl, Repl};

use super::repl::{Kind, output, python, run, small, worker};

/// Says what the helper test is to host, as `monty` or the path of a Python.
const HOSTS: &str = "LATENT_BRIEFING_TEST_HOSTS";

fn start(hosted: &str) -> Result<(Box<dyn Repl>, u32), latent_briefing::sandbox::Error> {
    if hosted == "monty" {
        let repl = MontyRepl::start(&MontyConfig { worker: Some(worker()), limits: small(Kind::Monty) })?;
        let id = repl.process_id().unwrap();
        return Ok((Box::new(repl), id));
    }
    let repl = CPythonRepl::start(&CPythonConfig { python: hosted.into(), limits: small(Kind::CPython) })?;
    let id = repl.process_id().unwrap();
    Ok((Box::new(repl), id))
}

fn kinds() -> Vec<String> {
    let python = python().map(|python| python.to_str().unwrap().to_owned());
    ["monty".to_owned()].into_iter().chain(python).collect()
}

/// No test: the program that other tests here start, and kill.
#[test]
fn host_for_other_tests() {
    let Ok(hosted) = std::env::var(HOSTS) else { return };
    match start(&hosted) {
        Ok((_repl, id)) => {
            println!("\nhosts {id}");
            std::thread::sleep(Duration::from_mins(1));
        }
        Err(error) => println!("\nfailed: {error}"),
    }
}

/// A program of its own that holds a session, begun through a shell that does `first`, and what it says of it.
fn host(hosted: &str, first: &str) -> (Child, String) {
    let mut host = Command::new("sh")
        .args(["-c", &format!("{first}\nexec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "orchestrate::repl_confined::host_for_other_tests", "--nocapture"])
        .env(HOSTS, hosted)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.into_iter().find(|line| line.starts_with("hosts ") || line.starts_with("failed"));
    let said = said.unwrap_or_else(|| panic!("the host of {hosted} says nothing"));
    (host, said)
}

fn end(mut host: Child) {
    host.kill().unwrap();
    host.wait().unwrap();
}

/// Whether there is a process of this id that is no zombie.
fn lives(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

#[test]
fn nothing_that_is_open_is_handed_down() {
    for kind in kinds() {
        let (host, said) = host(&kind, "exec 7</etc/passwd 8</dev/null 9</");
        let id = said.strip_prefix("hosts ").unwrap();
        let open: Vec<_> = std::fs::read_dir(format!("/proc/{id}/fd"))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .map(|target| target.to_str().unwrap().to_owned())
            .collect();
        let known = |target: &String| {
            target.starts_with("pipe:") || target.ends_with("/statm") || target == "/dev/null"
        };
        assert!(open.iter().all(known), "{kind}: {open:?}");
        // `/dev/null` is where the driver's standard streams lead; the eighth descriptor would be one more.
        let nowhere = open.iter().filter(|target| *target == "/dev/null").count();
        assert!(nowhere == if kind == "monty" { 0 } else { 3 }, "{kind}: {open:?}");
        end(host);
    }
}

/// A process that is stopped neither reads nor runs; the kernel ends it all the same.
#[test]
fn a_stopped_process_ends_with_its_host() {
    for kind in kinds() {
        let (host, said) = host(&kind, "");
        let id = said.strip_prefix("hosts ").unwrap();
        assert!(Command::new("kill").args(["-STOP", id]).status().unwrap().success());
        assert!(lives(id), "{kind}");
        end(host);
        let ended = Instant::now();
        while lives(id) {
            assert!(ended.elapsed() < Duration::from_secs(5), "{kind}: the process outlives its host");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The kernel takes the thread that starts a process for its parent; sessions move between threads.
#[test]
fn a_session_outlives_the_thread_that_started_it() {
    let started = std::thread::spawn(|| {
        MontyRepl::start(&MontyConfig { worker: Some(worker()), limits: small(Kind::Monty) }).unwrap()
    });
    let mut repl = started.join().unwrap();
    let id = repl.process_id();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(output(&mut repl, "print(1 + 1)"), "2\n");
    assert_eq!(repl.process_id(), id, "the first process still");
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
fn every_thread_has_its_list_of_system_calls() {
    for kind in kinds() {
        let (mut repl, id) = start(&kind).unwrap();
        assert_eq!(output(repl.as_mut(), "print(sorted([2, 1]))"), "[1, 2]\n");
        let threads: Vec<_> = std::fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten().collect();
        assert!(threads.len() > 1, "{kind}");
        for thread in threads {
            let status = std::fs::read_to_string(thread.path().join("status")).unwrap();
            let has = |line: &str| status.lines().any(|known| known.replace('\t', "") == line);
            assert!(has("NoNewPrivs:1") && has("Seccomp:2"), "{kind}: {status}");
        }
    }
}

/// What Python's own hooks do not see, the kernel refuses.
#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
fn the_kernel_refuses_what_the_hooks_do_not_see() {
    let Some(python) = python() else { return };
    let (mut repl, _) = start(python.to_str().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("fifo");
    let target = target.to_str().unwrap();
    for call in [
        format!("os.mkfifo({target:?})"),
        format!("os.mknod({target:?})"),
        "os.memfd_create('x')".to_owned(),
        "os.setsid()".to_owned(),
        "os.setpgid(0, os.getppid())".to_owned(),
        "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))".to_owned(),
        "os.setpriority(os.PRIO_PROCESS, 0, 19)".to_owned(),
        "os.pidfd_open(os.getppid())".to_owned(),
    ] {
        let executed = run(repl.as_mut(), &format!("import os\n{call}"));
        assert!(executed.stderr.starts_with("PermissionError"), "{call}: {executed:?}");
    }
    assert!(!Path::new(target).exists());
    // Reading, threads and errors are as ever.
    let code = "import threading\nfound = []\nt = threading.Thread(target=lambda: found.append(open('/etc/passwd').read(4)))\n\
                t.start(); t.join(); print(found)";
    let executed = run(repl.as_mut(), code);
    // Only root may have more threads than RLIMIT_NPROC says.
    assert!(executed.stdout.starts_with("['") || executed.stderr.contains("thread"), "{executed:?}");
    assert_eq!(output(repl.as_mut(), "print(open('/etc/passwd').read(1) != '')"), "True\n");
}

/// An interpreter that someone put into the folder that a program runs in is none.
#[test]
fn a_planted_interpreter_is_not_taken() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let planted = folder.path().join("python3");
    let mark = folder.path().join("planted-one-ran");
    std::fs::write(&planted, format!("#!/bin/sh\necho > {}\n", mark.display())).unwrap();
    std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o755)).unwrap();
    let first = format!("cd {}; PATH=.::; export PATH", folder.path().display());
    let (host, said) = host("python3", &first);
    assert!(said.contains("in no absolute folder of PATH"), "{said}");
    assert!(!mark.exists());
    end(host);
}
