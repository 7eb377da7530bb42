//! The process of a session: killed at any time, gone, hostile, or not there at all.
#![cfg_attr(not(unix), allow(dead_code, unused_imports, reason = "most of these tests need signals"))]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use latent_briefing::sandbox::Error;
use latent_briefing::sandbox::{
    CPythonConfig, CPythonRepl, Fault, HostCall, MontyConfig, MontyRepl, Repl, ReplLimits,
};

use super::repl::{CONTEXT, Host, Kind, assert_works, output, python, run, small, worker};

fn monty(limits: ReplLimits) -> MontyRepl {
    let mut repl = MontyRepl::start(&MontyConfig { worker: Some(worker()), limits }).unwrap();
    repl.set_text("context", CONTEXT).unwrap();
    repl
}

fn cpython(limits: ReplLimits) -> Option<CPythonRepl> {
    let mut repl = CPythonRepl::start(&CPythonConfig { python: python()?, limits }).unwrap();
    repl.set_text("context", CONTEXT).unwrap();
    Some(repl)
}

fn kill(id: u32) {
    assert!(Command::new("kill").args(["-9", &id.to_string()]).status().unwrap().success());
    std::thread::sleep(Duration::from_millis(50));
}

/// Whether there is a process of this id that is no zombie.
fn lives(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z"))
}

/// Kills the process from within a call.
fn killing(id: u32) -> Host {
    let answer = Box::new(move |_: &HostCall| {
        kill(id);
        vec!["too late".to_owned()]
    });
    Host { answer, ..Host::default() }
}

#[test]
#[cfg(unix)]
fn a_killed_process_is_replaced() {
    let mut repl = monty(small(Kind::Monty));
    run(&mut repl, "before = [1, 2]\ndef f(): return before[1]");
    // Between blocks.
    kill(repl.process_id().unwrap());
    assert_eq!(output(&mut repl, "print(before, f())\nbefore = 3"), "[1, 2] 2\n");
    kill(repl.process_id().unwrap());
    assert_eq!(repl.variable("before").unwrap().unwrap(), "3");
    // Texts that were set after the last block.
    repl.set_text("more", "text").unwrap();
    kill(repl.process_id().unwrap());
    repl.set_text("even", "more").unwrap();
    assert_eq!(output(&mut repl, "print(before, more, even)"), "3 text more\n");
    // During one.
    let mut host = killing(repl.process_id().unwrap());
    let executed = repl.execute("before = 4\nprint('said')\nllm_query('p')", &mut host).unwrap();
    assert_eq!(executed.fault, Some(Fault::Lost));
    let line = "The process that ran the block was ended by signal 9 (variables are as they were before it)";
    assert_eq!(executed.stderr, line);
    assert_eq!(output(&mut repl, "print(before, more)"), "3 text\n");
    assert_works(&mut repl, "kills");

    let Some(mut repl) = cpython(small(Kind::CPython)) else { return };
    run(&mut repl, "before = 1");
    kill(repl.process_id().unwrap());
    let executed = run(&mut repl, "print(context)");
    let left = "the session was begun anew; of its variables it has only context";
    assert_eq!(executed.stderr, format!("The process of the session had ended: {left}."));
    assert_eq!((executed.stdout, executed.fault), (format!("{CONTEXT}\n"), None));
    assert_eq!(repl.variable("before").unwrap(), None);
    let mut host = killing(repl.process_id().unwrap());
    let executed = repl.execute("llm_query('p')", &mut host).unwrap();
    assert_eq!(executed.fault, Some(Fault::Lost));
    assert_eq!(executed.stderr, format!("The process that ran the block was ended by signal 9 ({left})"));
    assert_works(&mut repl, "kills");
}

#[test]
#[cfg(unix)]
fn a_dropped_session_leaves_no_process() {
    let repl = monty(small(Kind::Monty));
    let id = repl.process_id().unwrap();
    assert!(lives(id));
    drop(repl);
    assert!(!lives(id));
    let Some(repl) = cpython(small(Kind::CPython)) else { return };
    let id = repl.process_id().unwrap();
    assert!(lives(id));
    drop(repl);
    assert!(!lives(id));
}

/// A program that the session is told to use.
#[cfg(unix)]
fn script(folder: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("worker");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
#[cfg(unix)]
fn a_process_that_does_not_keep_to_the_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let scripts = [
        ("exit 0", "ended with code 0"),
        ("echo 'no such luck' >&2; exit 3", "ended with code 3: no such luck"),
        ("kill -9 $$", "was ended by signal 9"),
        ("echo garbage", "no frame begins with byte 103"),
        ("while :; do echo garbage; done", "no frame begins with byte 103"),
        ("head -c 100 /dev/zero", "no frame begins with byte 0"),
        ("printf 'J\\377\\377\\377\\377'", "a frame of 4294967295 bytes"),
        ("printf 'B\\377\\377\\377\\377\\377\\377\\377\\377'", "a frame of 18446744073709551615 bytes"),
        (
            "printf 'J\\000\\000\\000\\007\"ready\"'; printf 'J\\000\\000\\000\\002{}'; sleep 5",
            "does not keep to the protocol|none of the protocol's",
        ),
        ("printf 'J\\000\\000\\000\\004nope'; sleep 5", "none of the protocol's"),
        ("printf 'J\\000\\000\\000\\006\"done\"'; sleep 5", "does not keep to the protocol"),
        (
            "printf 'B\\000\\000\\000\\000\\000\\000\\000\\001x'; sleep 5",
            "wrote bytes where a message was due",
        ),
        ("printf 'J\\000\\000\\001\\000cut short'", "ended with code 0"),
    ];
    for (text, reason) in scripts {
        let worker = Some(script(folder.path(), text));
        let error = loop {
            let started =
                MontyRepl::start(&MontyConfig { worker: worker.clone(), limits: small(Kind::Monty) });
            let error = started.and_then(|mut repl| repl.set_text("x", "t")).unwrap_err();
            // Another test's process may hold the script open between its fork and its exec.
            if !error.to_string().contains("Text file busy") {
                break error;
            }
        };
        assert!(matches!(error, Error::Repl { kind: "monty", .. }), "{text}: {error}");
        assert!(reason.split('|').any(|reason| error.to_string().contains(reason)), "{text}: {error}");
    }
}

#[test]
fn programs_that_are_not_there() {
    let missing = || PathBuf::from("/nowhere/lb-repl");
    let error =
        MontyRepl::start(&MontyConfig { worker: Some(missing()), limits: small(Kind::Monty) }).unwrap_err();
    assert!(error.to_string().contains("cannot start /nowhere/lb-repl: "), "{error}");
    let error =
        CPythonRepl::start(&CPythonConfig { python: missing(), limits: small(Kind::CPython) }).unwrap_err();
    assert!(error.to_string().contains("the cpython sandbox cannot start /nowhere/lb-repl: "), "{error}");
    let python = PathBuf::from("no-such-python-anywhere");
    let error = CPythonRepl::start(&CPythonConfig { python, limits: small(Kind::CPython) }).unwrap_err();
    assert!(error.to_string().contains("cannot start no-such-python-anywhere: "), "{error}");
}

/// `lb-repl` lies one folder above this program, where a stranger may be able to put one; it is not taken from there.
#[test]
fn the_program_is_not_looked_for_in_folders_above() {
    let started = MontyRepl::start(&MontyConfig { worker: None, limits: small(Kind::Monty) });
    let error = started.unwrap_err().to_string();
    assert!(error.contains("give MontyConfig::worker a path to lb-repl"), "{error}");
}

#[test]
fn the_program_by_hand_says_what_it_is_for() {
    let output = Command::new(worker()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("which starts it by itself"));
}

/// A program that calls `sandbox_main` needs no `lb-repl`: it runs itself. Here it is `lb-repl` under another name.
#[test]
fn a_program_that_serves_is_its_own_worker() {
    let folder = tempfile::tempdir_in(worker().parent().unwrap()).unwrap();
    let program = folder.path().join("another-program");
    std::fs::hard_link(worker(), &program).unwrap();
    let output = Command::new(program).arg("--check").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the sandbox works\n");
    assert!(output.status.success());
}

/// The process ends when its host does, also while code runs: its stdin closes.
#[test]
#[cfg(unix)]
fn a_process_ends_with_its_host() {
    use std::io::Write;
    use std::process::Stdio;
    let mut child = Command::new(worker())
        .env_clear()
        .env("LATENT_BRIEFING_SANDBOX", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let limits = ReplLimits { time: Duration::from_mins(10), ..small(Kind::Monty) };
    let mut stdin = child.stdin.take().unwrap();
    for message in [
        serde_json::json!({ "start": limits }).to_string(),
        serde_json::json!({ "execute": { "code": "while True: pass" } }).to_string(),
    ] {
        stdin.write_all(b"J").unwrap();
        stdin.write_all(&u32::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
        stdin.write_all(message.as_bytes()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none(), "code runs");
    drop(stdin);
    let closed = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(closed.elapsed() < Duration::from_secs(5), "the process outlives its host");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_has_taken_from_itself_what_it_does_not_need() {
    let repl = monty(small(Kind::Monty));
    let id = repl.process_id().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
    let hard = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().nth(1).unwrap().to_owned()
    };
    for name in ["Max file size", "Max core file size", "Max processes", "Max open files"] {
        assert_eq!(hard(name), "0", "{name}");
    }
    assert!(hard("Max data size").parse::<u64>().unwrap() < 1 << 30);
    let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap();
    assert_eq!(environment, b"LATENT_BRIEFING_SANDBOX=1\0");
    assert_eq!(std::fs::read_link(format!("/proc/{id}/cwd")).unwrap(), Path::new("/"));
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap();
    assert_eq!(group, id.to_string(), "a process group of its own");
}

#[test]
#[cfg(target_os = "linux")]
fn many_calls_take_no_more_memory_than_few() {
    let resident = |id: u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let limits = ReplLimits { calls: 10_000, ..small(Kind::Monty) };
    let mut repl = monty(limits);
    let mut host = Host { answer: Box::new(|_| vec!["x".repeat(1000)]), ..Host::default() };
    let mut calls = |n: usize, repl: &mut MontyRepl| {
        let executed =
            repl.execute(&format!("for i in range({n}): x = llm_query('p' * 1000)"), &mut host).unwrap();
        assert_eq!((executed.fault, executed.calls), (None, n));
        resident(repl.process_id().unwrap())
    };
    let few = calls(200, &mut repl);
    let many = calls(10_000, &mut repl);
    // 10,000 answers that stayed would be 20 MB.
    assert!(many < few + 5_000, "{few} kB after 200 calls, {many} kB after 10,000");
}
