//! A disk that is full in the middle of a line: nothing is appended behind what is left of it, and the run goes on later.
#![cfg(target_os = "linux")]

use latent_briefing::orchestrate::{Rlm, RunRecord};

use super::findings_alone as config;
use crate::support::embedded;
use crate::support::monty;
use crate::support::orchestrators::Scripted;
use crate::support::small_disk::SmallDisk;

const TURNS: usize = 12;

/// Each shows 15,000 characters, which go into the log.
fn turns() -> Vec<String> {
    let block = |code: &str| format!("I go on.\n```repl\n{code}\n```");
    let mut turns = vec![block("n = 0")];
    turns.extend((2..TURNS).map(|_| block("n = n + 1\nprint('some words ' * 1364)")));
    turns.push(block("answer['content'] = str(n)\nanswer['ready'] = True"));
    turns
}

#[test]
fn a_run_on_a_full_disk_loses_its_last_turn_at_most() {
    let Some(disk) = SmallDisk::mount("256k") else { return };
    let mut rlm = Rlm::new(embedded(), monty, config(Some(disk.path()))).unwrap();
    rlm.add_context("finding: Anara keeps the Velmar ledger.").unwrap();
    let stopped = rlm.run(&mut Scripted::new(turns()), "Who?").unwrap_err();
    let log = stopped.log.clone().unwrap();
    assert!(stopped.to_string().contains("space"), "{stopped}");
    // The same process tries again, as a program would whose user asks once more; the disk is as full.
    let again = rlm.run(&mut Scripted::new(turns()), "Who?");
    assert!(again.is_err(), "the disk is still full");
    drop(rlm);
    let record = RunRecord::open(&log).unwrap();
    let done = record.turns().count();
    assert!((2..TURNS).contains(&done), "{done}");
    let there = std::fs::read(&log).unwrap();
    let whole = there.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    // With room, the run goes on from its last whole turn.
    disk.grow("4m");
    let mut rlm = Rlm::resume(&log, embedded(), monty, config(None)).unwrap().rlm;
    let run = rlm.go_on(&mut Scripted::new(turns()[done..].to_vec()), &mut |_| {}).unwrap();
    assert_eq!(run.answer, (TURNS - 2).to_string());
    drop(rlm);
    assert!(std::fs::read(&log).unwrap().starts_with(&there[..whole]));
    let record = RunRecord::open(&log).unwrap();
    assert_eq!((record.torn, record.answer()), (0, Some(run.answer.as_str())));
}
