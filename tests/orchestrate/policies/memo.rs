//! Remembered answers: hit, miss, expiry, tenants, spoilt files, room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use latent_briefing::orchestrate::{AnswerMemo, MemoConfig, MemoKey, RememberedAnswer};
use latent_briefing::session::CallTokens;

use super::*;

fn answer(text: &str) -> RememberedAnswer {
    let tokens = CallTokens { prefilled: 40, generated: 3, ..CallTokens::default() };
    RememberedAnswer { response: text.to_owned(), tokens, keep_ratio: Some(0.5), seconds: 0.25 }
}

/// A memo whose clock is set by hand, in seconds.
fn at(config: MemoConfig) -> (AnswerMemo, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock = Arc::clone(&now);
    let memo = AnswerMemo::with_clock(config, move || {
        UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed))
    });
    (memo.unwrap(), now)
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect()
}

#[test]
fn an_answer_is_found_until_it_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let config = MemoConfig { time_to_live_s: 100, ..MemoConfig::at(dir.path()) };
    let (memo, now) = at(config.clone());
    let (key, other) = (MemoKey::of(&["a", "b"]), MemoKey::of(&["ab", ""]));
    assert!(memo.get(&key).is_none());
    memo.put(&key, &answer("Anara"));
    now.fetch_add(99, Ordering::Relaxed);
    let (found, hit) = memo.get(&key).unwrap();
    assert_eq!((found, hit.age_s, hit.tokens.prefilled), (answer("Anara"), 99, 40));
    assert!(memo.get(&other).is_none(), "parts are kept apart");
    // Another process finds it as well.
    let (second, clock) = at(config);
    clock.store(1_000_099, Ordering::Relaxed);
    assert!(second.get(&key).is_some());
    now.fetch_add(1, Ordering::Relaxed);
    assert!(memo.get(&key).is_none());
    let stats = memo.stats();
    assert_eq!((stats.hits, stats.misses, stats.expired, stats.stored), (1, 3, 1, 1));
    assert!(files(dir.path()).is_empty(), "what is too old is taken away");
}

#[test]
fn a_spoilt_file_is_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (memo, _) = at(MemoConfig::at(dir.path()));
    let key = MemoKey::of(&["a"]);
    memo.put(&key, &answer("Anara"));
    let path = files(dir.path()).remove(0);
    let good = std::fs::read(&path).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let older = text.replace("1000000", "1000001");
    for spoilt in [
        &b""[..],
        &good[..good.len() / 2],
        text.replace("Anara", "Tolio").as_bytes(),
        older.as_bytes(),
        b"[]",
        &[0xff; 40],
    ] {
        std::fs::write(&path, spoilt).unwrap();
        assert!(memo.get(&key).is_none(), "{}", String::from_utf8_lossy(spoilt));
        assert!(!path.exists());
    }
    assert_eq!((memo.stats().corrupt, memo.stats().hits), (6, 0));
    // It is computed and written again.
    memo.put(&key, &answer("Anara"));
    assert!(memo.get(&key).is_some());
    // Another key's file in its place is spoilt as well.
    let other = MemoKey::of(&["b"]);
    memo.put(&other, &answer("Tolio"));
    let moved = files(dir.path()).into_iter().find(|file| *file != path).unwrap();
    std::fs::copy(moved, &path).unwrap();
    assert!(memo.get(&key).is_none());
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let (memo, now) = at(MemoConfig { max_bytes: 8192, ..MemoConfig::at(dir.path()) });
    let key = |n: usize| MemoKey::of(&[&n.to_string()]);
    let long = "word ".repeat(150);
    for n in 0..6 {
        now.fetch_add(10, Ordering::Relaxed);
        memo.put(&key(n), &answer(&long));
    }
    now.fetch_add(10, Ordering::Relaxed);
    assert!(memo.get(&key(0)).is_some(), "it is used once more");
    for n in 6..10 {
        now.fetch_add(10, Ordering::Relaxed);
        memo.put(&key(n), &answer(&long));
    }
    let bytes: u64 = files(dir.path()).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    assert!(bytes <= 8192, "{bytes}");
    assert!(memo.stats().evicted > 0);
    assert!(memo.get(&key(0)).is_some() && memo.get(&key(9)).is_some() && memo.get(&key(1)).is_none());
    // What is larger than all the room is not kept.
    memo.put(&key(99), &answer(&"x".repeat(9000)));
    assert_eq!(memo.stats().unwritten, 1);
}

const ASKS: &str = "note(\"The Velmar ledger is kept by Anara.\")\n\
    r = llm_query_batched([\"Who keeps the Velmar ledger?\", \"Where does Anara work?\"])\n\
    d = llm_query(\"Who keeps the Oslund relay?\", context, brief=False)\nprint(r, d)";

fn run(config: RlmConfig) -> (String, latent_briefing::orchestrate::RunLedger) {
    let run = rlm(config).run(&mut script([repl(ASKS), ready("str([r, d])")]), "Who?").unwrap();
    (run.answer, run.ledger)
}

fn remembering(config: RlmConfig, dir: &Path, tenant: &str) -> (RlmConfig, AnswerMemo) {
    let memo = AnswerMemo::open(MemoConfig { tenant: tenant.to_owned(), ..MemoConfig::at(dir) }).unwrap();
    (RlmConfig { memo: Some(memo.clone()), ..config }, memo)
}

#[test]
fn a_second_run_computes_nothing_that_the_first_did() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, before) = run(config());
    let (config_a, memo) = remembering(config(), dir.path(), "a");
    assert_eq!(run(config_a.clone()).0, plain);
    assert_eq!((memo.stats().hits, memo.stats().stored), (0, 3));
    let (again, ledger) = run(config_a);
    assert_eq!((again, memo.stats().hits), (plain.clone(), 3));
    assert_eq!(
        (ledger.worker.calls, ledger.worker.tokens.prefilled, ledger.worker.tokens.generated),
        (3, 0, 0)
    );
    assert!(before.worker.tokens.prefilled > 0);
    // Another tenant, another handoff, other options, another trajectory: none of them finds these.
    let (config_b, other) = remembering(config(), dir.path(), "b");
    assert_eq!(run(config_b).0, plain);
    assert_eq!(other.stats().hits, 0);
    let (mut longer, memo) = remembering(config(), dir.path(), "a");
    longer.session.generate.max_new_tokens = 63;
    run(longer);
    assert_eq!(memo.stats().hits, 0);
    let (full, memo) = remembering(RlmConfig { handoff: Handoff::FullKv, ..config() }, dir.path(), "a");
    run(full);
    assert_eq!((memo.stats().hits, memo.stats().misses), (1, 2), "the call without a briefing is the same");
    let (config_a, memo) = remembering(config(), dir.path(), "a");
    let said = format!("note(\"Tolio works in Redmoor.\")\n{ASKS}");
    rlm(config_a).run(&mut script([repl(&said), ready("str(r)")]), "Who?").unwrap();
    assert_eq!(memo.stats().hits, 1);
}

#[test]
fn answers_that_are_drawn_by_lot_are_not_looked_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut sampled, memo) = remembering(config(), dir.path(), "a");
    sampled.session.generate.temperature = Some(0.8);
    run(sampled);
    assert_eq!((memo.stats().bypassed, memo.stats().stored), (3, 0));
}
