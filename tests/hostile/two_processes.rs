//! Two processes at one log, folder, cache or file: one has it, the other is told who; where the first is killed, nothing
//! that it wrote is lost and the other goes on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use latent_briefing::eval::{self, pipeline};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::apart::{Apart, part, tell};

/// Does nothing but in the processes that the tests start: `JOB ARGUMENT...`.
#[test]
fn played() {
    let Some(part) = part() else { return };
    let mut words = part.split(' ');
    let job = words.next().unwrap();
    let arguments: Vec<&str> = words.collect();
    tell("begun");
    tell(match job {
        "loop" => jobs::go_on(Path::new(arguments[0])),
        "bench" => jobs::bench(Path::new(arguments[0])),
        "hub" => jobs::download(arguments[0], Path::new(arguments[1])),
        "quantise" => jobs::quantise(Path::new(arguments[0])),
        "hold" => {
            let _lock = pipeline::hold(Path::new(arguments[0])).unwrap();
            tell("held");
            std::thread::sleep(Duration::from_mins(1));
            String::new()
        }
        other => panic!("no job {other}"),
    });
}

/// Starts a job and waits until it has begun.
fn start(part: &str) -> Apart {
    let mut apart = Apart::start("hostile::two_processes::played", part);
    assert_eq!(apart.said(), "begun");
    apart
}

#[test]
fn who_holds_a_folder_is_named_and_its_death_frees_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = start(&format!("hold {}", dir.path().display()));
    assert_eq!(holder.said(), "held");
    let error = pipeline::hold(dir.path()).unwrap_err();
    let (named, id) = (error.to_string(), holder.child.id());
    assert!(matches!(error, eval::Error::Locked { .. }), "{error:?}");
    assert!(named.contains(&format!("process {id}")), "{named}");
    holder.kill();
    let lock = pipeline::hold(dir.path()).unwrap();
    assert!(pipeline::hold(dir.path()).is_err(), "not twice in one process either");
    drop(lock);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays of a lock");
}

mod jobs {
    use super::*;

    use latent_briefing::model::{Checkpoint, GgufFormat};

    pub(super) use with_sandbox::*;

    pub(super) fn download(url: &str, cache: &Path) -> String {
        use lb_model::hub::{Hub, Network};
        let hub = Hub::new(crate::support::hub_server::REPO).unwrap().endpoint(url).cache_dir(cache);
        let hub = hub.network(Network::CacheFirst).timeout(Duration::from_secs(20));
        let file = hub.file("big.gguf").unwrap();
        let bytes = std::fs::read(file).unwrap();
        format!("{} bytes, sum {}", bytes.len(), bytes.iter().map(|b| u64::from(*b)).sum::<u64>())
    }

    pub(super) fn quantise(path: &Path) -> String {
        let checkpoint = Checkpoint::embedded();
        for _ in 0..10 {
            checkpoint.write_gguf(path, GgufFormat::Q8_0).unwrap();
        }
        format!("{} bytes", std::fs::metadata(path).unwrap().len())
    }

    mod with_sandbox {
        use super::*;

        use std::sync::Arc;

        use latent_briefing::am::Compaction;
        use latent_briefing::eval::datasets::{Loaded, synthetic};
        use latent_briefing::eval::pipeline::Existing;
        use latent_briefing::eval::runs::items::{self, Bench, BenchPlan};
        use latent_briefing::eval::runs::replay::trained_policy;
        use latent_briefing::orchestrate::{Error, Reader, Rlm, RlmConfig};
        use latent_briefing::session::Handoff;

        use crate::support::embedded;
        use crate::support::monty;
        use crate::support::orchestrators::Scripted;

        const WAIT: Duration = Duration::from_millis(2);

        fn config(log: Option<&Path>) -> RlmConfig {
            let handoff = Handoff::briefing(Compaction::keep_ratio(0.6));
            RlmConfig { handoff, log_dir: log.map(Path::to_owned), ..RlmConfig::default() }
        }

        const TURNS: usize = 10;

        fn turns() -> Vec<String> {
            let block = |code: &str| format!("I go on.\n```repl\n{code}\n```");
            let ask = "r = llm_query('Who keeps the Velmar ledger?')\nn = n + len(r)\nprint(n)";
            let mut turns = vec![block("n = 0")];
            turns.extend((2..TURNS).map(|_| block(ask)));
            turns.push(block("answer['content'] = str(n) + r\nanswer['ready'] = True"));
            turns
        }

        /// A log of the first turn.
        pub(in super::super) fn first_turn(dir: &Path) -> PathBuf {
            let mut rlm = Rlm::new(embedded(), monty, config(Some(dir))).unwrap();
            rlm.add_context("finding: Anara keeps the Velmar ledger.").unwrap();
            let stopped = rlm.run(&mut Scripted::new([turns().remove(0)]), "Who?").unwrap_err();
            stopped.log.unwrap()
        }

        /// Goes on with a run, once nobody else does.
        pub(in super::super) fn go_on(log: &Path) -> String {
            let resumed = loop {
                match Rlm::resume(log, embedded(), monty, config(None)) {
                    Err(Error::Locked { .. }) => std::thread::sleep(WAIT),
                    resumed => break resumed.unwrap(),
                }
            };
            let (mut rlm, answer) = (resumed.rlm, resumed.answer);
            assert_eq!(resumed.differing, 0);
            // The first turn's own end is a turn that was stopped, and no turn of the loop.
            let done = latent_briefing::orchestrate::RunRecord::open(log).unwrap().turns().count();
            answer.unwrap_or_else(|| {
                rlm.go_on(&mut Scripted::new(turns()[done..].to_vec()), &mut |_| {}).unwrap().answer
            })
        }

        pub(in super::super) fn bench(dir: &Path) -> String {
            let mut config = RlmConfig { log_briefings: false, ..RlmConfig::default() };
            config.session.policy = trained_policy();
            let bench = Bench {
                worker: embedded().clone(),
                open: Arc::new(monty),
                orchestrator: Arc::new(|_, _| Ok(Box::new(Reader::new()))),
                orchestrator_name: "program".to_owned(),
                turns: None,
                config,
            };
            let conditions = ["latent-briefing", "full-kv", "none"].map(str::to_owned).to_vec();
            let plan = BenchPlan { conditions, answer_tokens: 16, ..BenchPlan::default() };
            let items = synthetic::bundled().unwrap().into_iter().take(2).collect();
            let loaded = Loaded { items, ..Loaded::default() };
            loop {
                match items::run(&bench, &plan, &loaded, dir, Existing::Resume, &|_| {}) {
                    Err(eval::Error::Locked { .. }) => std::thread::sleep(WAIT),
                    finished => break format!("{} rows", finished.unwrap().rows.len()),
                }
            }
        }
    }
}

/// What of a file is there for good: its whole lines.
fn whole_lines(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap_or_default();
    bytes.truncate(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1));
    bytes
}

/// Kills a job at random moments while another process waits to do the same.
fn kills(times: usize, random: &mut ChaCha8Rng, set_up: &dyn Fn(&Path) -> (String, PathBuf), lines: bool) {
    let clean = tempfile::tempdir().unwrap();
    let (job, _) = set_up(clean.path());
    let mut alone = start(&job);
    let begun = Instant::now();
    let result = alone.said();
    let takes = begun.elapsed();
    assert!(alone.child.wait().unwrap().success() && !result.is_empty());
    let mut early = 0;
    for _ in 0..times {
        let dir = tempfile::tempdir().unwrap();
        let (job, file) = set_up(dir.path());
        let first = start(&job);
        let mut waiting = start(&job);
        std::thread::sleep(takes.mul_f64(random.random_range(0.0..0.9)).min(Duration::from_secs(20)));
        first.kill();
        let there = if lines { whole_lines(&file) } else { Vec::new() };
        early += usize::from(there.is_empty());
        assert_eq!(waiting.said(), result, "{job}");
        assert!(waiting.child.wait().unwrap().success());
        let whole = std::fs::read(&file).unwrap();
        assert!(whole.starts_with(&there), "{job}: {} bytes that were there are not any more", there.len());
    }
    let kind = job.split(' ').next().unwrap();
    let written = if lines { format!(", {early} before anything was written") } else { String::new() };
    println!("{kind}: {times} kills within {takes:.1?}{written}");
}

fn all_jobs(times: usize, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    {
        let run = |dir: &Path| {
            let log = jobs::first_turn(dir);
            (format!("loop {}", log.display()), log)
        };
        kills(times, &mut random, &run, true);
        let bench = |dir: &Path| (format!("bench {}", dir.display()), dir.join(pipeline::ROWS));
        kills(times, &mut random, &bench, true);
    }
    {
        use crate::support::hub_server::{COMMIT, HubServer};
        let repository = tempfile::tempdir().unwrap();
        let server = HubServer::of(repository.path());
        let bytes: Vec<u8> = (0..32 << 20).map(|_| random.random()).collect();
        server.put(COMMIT, "big.gguf", bytes);
        let hub = |dir: &Path| {
            let mut file = dir.join("models--org--tiny/snapshots");
            file.push(COMMIT);
            (format!("hub {} {}", server.url(), dir.display()), file.join("big.gguf"))
        };
        kills(times, &mut random, &hub, false);
    }
    let quantise = |dir: &Path| {
        let file = dir.join("worker.gguf");
        (format!("quantise {}", file.display()), file)
    };
    kills(times, &mut random, &quantise, false);
}

#[test]
fn kills_lose_nothing_and_the_waiting_process_goes_on() {
    all_jobs(2, 1);
}

/// A hundred, or `LB_KILLS` for each job.
#[test]
#[ignore = "takes minutes"]
fn a_hundred_kills_lose_nothing() {
    let times = std::env::var("LB_KILLS").map_or(25, |text| text.parse().unwrap());
    all_jobs(times, 2);
}
