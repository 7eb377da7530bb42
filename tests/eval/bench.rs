//! Benchmarks: the same rows whatever the number of threads, paired turns, resuming, failures, malformed items.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use latent_briefing::eval::Error;
use latent_briefing::eval::answers::{self, AnswerRow};
use latent_briefing::eval::datasets::{
    FileKind, Item, ItemFault, LoadOptions, Loaded, OnFault, load, ruler, synthetic,
};
use latent_briefing::eval::pipeline::{self, Existing, Finished, Part};
use latent_briefing::eval::runs::items::{self, Bench, BenchPlan, RecordedTurns, Scoring};
use latent_briefing::eval::runs::replay::trained_policy;
use latent_briefing::eval::stats::bootstrap::Bootstrap;
use latent_briefing::orchestrate::{
    self, ChatRequest, Completion, Limits, Orchestrator, Reader, RlmConfig, RunRecord,
};
use latent_briefing::sandbox::{MontyConfig, MontyRepl, Repl};

use crate::support::embedded;

fn bench() -> Bench {
    let mut config = RlmConfig { log_briefings: false, ..RlmConfig::default() };
    config.session.policy = trained_policy();
    let worker = Some(crate::support::sandbox_program());
    let sandbox = MontyConfig { worker, ..MontyConfig::default() };
    Bench {
        worker: embedded().clone(),
        open: Arc::new(move || Ok(Box::new(MontyRepl::start(&sandbox)?) as Box<dyn Repl>)),
        orchestrator: Arc::new(|_, _| Ok(Box::new(Reader::new()))),
        orchestrator_name: "program".to_owned(),
        turns: None,
        config,
    }
}

fn plan(jobs: usize) -> BenchPlan {
    BenchPlan {
        conditions: ["latent-briefing", "full-kv", "none", "direct"].map(str::to_owned).to_vec(),
        tau: vec![1.0, 4.0],
        jobs,
        answer_tokens: 16,
        scoring: Scoring::ChoiceText,
        ..BenchPlan::default()
    }
}

fn items(count: usize) -> Vec<Item> {
    synthetic::bundled().unwrap().into_iter().step_by(3).take(count).collect()
}

fn loaded(items: &[Item]) -> Loaded {
    Loaded { items: items.to_vec(), ..Loaded::default() }
}

fn run(
    bench: &Bench,
    plan: &BenchPlan,
    items: &[Item],
    dir: &Path,
    existing: Existing,
) -> Finished<AnswerRow> {
    items::run(bench, plan, &loaded(items), dir, existing, &|_| {}).unwrap()
}

/// The rows without what a clock or chance puts there.
fn content(rows: &[AnswerRow]) -> BTreeMap<(String, String, usize), AnswerRow> {
    let timeless = |row: &AnswerRow| AnswerRow {
        log: row.log.as_ref().map(|_| String::new()),
        brief_s: 0.0,
        prefill_s: 0.0,
        decode_s: 0.0,
        elapsed_s: 0.0,
        ..row.clone()
    };
    let key = |row: &AnswerRow| (row.item.clone(), row.condition.clone(), row.repeat);
    let map: BTreeMap<_, _> = rows.iter().map(|row| (key(row), timeless(row))).collect();
    assert_eq!(map.len(), rows.len(), "no row is there twice");
    map
}

#[test]
fn rows_are_the_same_for_any_number_of_jobs_and_after_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let (bench, items) = (bench(), items(2));
    let alone = run(&bench, &plan(1), &items, &one, Existing::Refuse);
    let both = run(&bench, &plan(2), &items, &two, Existing::Refuse);
    assert_eq!(alone.rows.len(), 10);
    assert_eq!(content(&alone.rows), content(&both.rows));
    assert_eq!(content(&pipeline::read_rows(&two).unwrap().rows), content(&both.rows));
    // The turns are read once in every condition with a loop, and what differs is the handoff.
    let of = |condition: &str| -> Vec<&AnswerRow> {
        alone.rows.iter().filter(|row| row.condition == condition).collect()
    };
    for (full, brief) in of("full-kv").into_iter().zip(of("latent-briefing:tau=4")) {
        assert_eq!((full.orchestrator, full.calls), (brief.orchestrator, brief.calls));
        assert!(full.calls > 0 && full.keep_ratio == Some(1.0), "{full:?}");
        assert!(brief.keep_ratio.unwrap() < 1.0);
        assert!(brief.worker_tokens() < full.worker_tokens());
        let log = RunRecord::open(one.join(full.log.as_ref().unwrap())).unwrap();
        assert_eq!(log.turns().count(), 5);
        // The replay has a log of its own, with its own answers.
        let own = RunRecord::open(one.join(brief.log.as_ref().unwrap())).unwrap();
        assert!(brief.log != full.log && own.turns().count() == 5);
    }
    assert!(alone.rows.iter().all(|row| row.failure.is_none()), "{:?}", alone.rows);
    assert!(of("direct").iter().all(|row| row.calls == 1 && row.trajectory == 0));

    // The file ends within the last row; one row before it is gone too.
    let path = one.join(pipeline::ROWS);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let kept = lines.len() - 2;
    std::fs::write(&path, format!("{}\n{}", lines[..kept].join("\n"), &lines[kept][..40])).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let mut again = bench.clone();
    again.orchestrator = Arc::new(move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Reader::new()))
    });
    let resumed = run(&again, &plan(2), &items, &one, Existing::Resume);
    assert_eq!((resumed.resumed, resumed.rows.len()), (kept, 10));
    assert_eq!(content(&resumed.rows), content(&alone.rows));
    assert_eq!(content(&pipeline::read_rows(&one).unwrap().rows), content(&alone.rows));
    assert_eq!(calls.load(Ordering::Relaxed), 0, "the recorded turns are taken");

    let refused = items::run(&bench, &plan(1), &loaded(&items), &one, Existing::Refuse, &|_| {}).unwrap_err();
    assert!(matches!(refused, Error::Config { field: "out", .. }), "{refused}");
    let other = BenchPlan { seed: 1, ..plan(1) };
    let changed = items::run(&bench, &other, &loaded(&items), &one, Existing::Resume, &|_| {}).unwrap_err();
    assert!(matches!(&changed, Error::PlanChanged { field, .. } if field == "seed"), "{changed}");
    let fewer =
        items::run(&bench, &plan(1), &loaded(&items[..1]), &one, Existing::Resume, &|_| {}).unwrap_err();
    assert!(matches!(&fewer, Error::PlanChanged { field, .. } if field.starts_with("items")), "{fewer}");
}

#[test]
fn turns_recorded_before_serve_other_conditions() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let (bench, items) = (bench(), items(3));
    let before = run(&bench, &plan(2), &items[..2], &first, Existing::Refuse);
    let turns = RecordedTurns::open(&first).unwrap();
    assert_eq!(turns.len(), 2);
    let replayed = Bench {
        turns: Some(Arc::new(turns)),
        orchestrator: Arc::new(|_, _| panic!("nobody is asked")),
        ..bench
    };
    let names = ["full-kv", "text-replay", "latent-briefing:tau=4"];
    let other = BenchPlan { conditions: names.map(str::to_owned).to_vec(), tau: Vec::new(), ..plan(2) };
    let after = run(&replayed, &other, &items, &second, Existing::Refuse);
    assert_eq!(after.rows.len(), 9);
    for row in &before.rows {
        let again = after.rows.iter().find(|own| own.item == row.item && own.condition == row.condition);
        if let Some(again) = again {
            assert_eq!((&again.answer, again.worker, again.calls), (&row.answer, row.worker, row.calls));
        }
    }
    // The third item was not recorded.
    let without: Vec<_> = after.rows.iter().filter(|row| row.failure.is_some()).collect();
    assert!(without.len() == 3 && without.iter().all(|row| row.item == items[2].id), "{without:?}");
    assert!(without[0].failure.as_ref().unwrap().contains("no turns of it"));
    assert!(matches!(RecordedTurns::open(dir.path()), Err(Error::Io { .. })));
}

struct Fails;

impl Orchestrator for Fails {
    fn model(&self) -> &'static str {
        "fails"
    }

    fn backend(&self) -> &'static str {
        "program"
    }

    fn complete(&mut self, _: &ChatRequest<'_>) -> orchestrate::Result<Completion> {
        Err(orchestrate::Error::Orchestrator("no connection".into()))
    }
}

#[test]
fn a_run_that_stops_is_a_row_in_every_condition() {
    let dir = tempfile::tempdir().unwrap();
    let items = items(2);
    let (mut bench, bad) = (bench(), items[0].id.clone());
    bench.orchestrator = Arc::new(move |item, _| {
        Ok(if item.id == bad { Box::new(Fails) as Box<dyn Orchestrator> } else { Box::new(Reader::new()) })
    });
    let plan = BenchPlan { conditions: vec!["none".into(), "full-kv".into()], ..plan(2) };
    let rows = run(&bench, &plan, &items, dir.path(), Existing::Refuse).rows;
    assert_eq!(rows.len(), 4);
    let failed: Vec<_> = rows.iter().filter(|row| row.failure.is_some()).collect();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|row| row.item == items[0].id && !row.right() && row.score == 0.0));
    let live = failed.iter().find(|row| row.condition == "full-kv").unwrap();
    assert!(live.failure.as_ref().unwrap().contains("no connection"), "{live:?}");

    // Too few turns: the last completion is not code, and no answer of a worker.
    let limits = Limits { iterations: 1, ..Limits::default() };
    let short = BenchPlan { limits, ..plan };
    let rows = run(&self::bench(), &short, &items[..1], &dir.path().join("short"), Existing::Refuse).rows;
    assert!(rows.len() == 2 && rows.iter().all(|row| !row.right()));
}

#[test]
fn plans_out_of_range_are_refused_and_the_split_is_by_document() {
    let wrong = [
        ("repeats", BenchPlan { repeats: 0, ..plan(1) }),
        ("jobs", BenchPlan { jobs: 0, ..plan(1) }),
        ("validation_share", BenchPlan { validation_share: f64::NAN, ..plan(1) }),
        ("conditions", BenchPlan { conditions: Vec::new(), ..plan(1) }),
        ("conditions", BenchPlan { conditions: vec!["none".into(), "none".into()], ..plan(1) }),
    ];
    for (name, plan) in wrong {
        let error = plan.validate().unwrap_err();
        assert!(matches!(error, Error::Config { field, .. } if field == name), "{error}");
    }
    assert!(BenchPlan { conditions: vec!["bm26".into()], ..plan(1) }.validate().is_err());
    let names: Vec<_> = plan(1).expanded().unwrap().into_iter().map(|condition| condition.name).collect();
    assert_eq!(names, ["latent-briefing:tau=1", "latent-briefing:tau=4", "full-kv", "none", "direct"]);

    let split = BenchPlan { validation_share: 0.3, ..plan(1) };
    let chosen = (0..10_000_u64).filter(|number| split.part(*number) == Part::Validation).count();
    assert!((2850..3150).contains(&chosen), "{chosen}");
    let other = BenchPlan { seed: 1, ..split.clone() };
    assert!((0..100).any(|number| split.part(number) != other.part(number)));
}

#[test]
fn generated_tasks_are_rows_with_task_and_length() {
    let dir = tempfile::tempdir().unwrap();
    let bench = bench();
    let count = |text: &str| Ok(bench.worker.tokenizer().encode_text(text)?.len());
    let tasks = [ruler::RulerTask::MultiValue, ruler::RulerTask::FrequentWords];
    let items = ruler::suite(&tasks, &[512, 1024], 1, 3, &count).unwrap();
    let plan = BenchPlan { conditions: vec!["direct".into()], scoring: Scoring::Official, ..plan(2) };
    let rows = run(&bench, &plan, &items, dir.path(), Existing::Refuse).rows;
    let mut classes: Vec<_> =
        rows.iter().map(|row| (row.kind.as_str(), row.length.as_deref().unwrap())).collect();
    classes.sort_unstable();
    let (multi, frequent) = ("ruler/multi-value", "ruler/frequent-words");
    assert_eq!(classes, [(frequent, "1024"), (frequent, "512"), (multi, "1024"), (multi, "512")]);
    assert!(rows.iter().all(|row| row.expected.contains(" | ") && row.failure.is_none()), "{rows:?}");
}

#[test]
fn malformed_items_are_listed_and_skipped_or_fail() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data.jsonl");
    let good: Vec<&str> = synthetic::BUNDLED.lines().take(2).collect();
    let bad = good[1].replace("\"_id\":\"", "\"_id\":\"bad-").replace("\"answer\":\"", "\"answer\":\"E");
    std::fs::write(&file, [good[0], &bad].join("\n")).unwrap();
    let loaded = load(&file, FileKind::LongBenchV2, &LoadOptions::default()).unwrap();
    assert_eq!((loaded.items.len(), loaded.faults.len()), (1, 1));
    let (out, plan) = (dir.path().join("out"), BenchPlan { conditions: vec!["direct".into()], ..plan(1) });
    items::run(&bench(), &plan, &loaded, &out, Existing::Refuse, &|_| {}).unwrap();
    let text = std::fs::read_to_string(out.join(items::FAULTS)).unwrap();
    let listed: Vec<ItemFault> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed, loaded.faults);
    assert_eq!(listed[0].line, 2);
    assert!(listed[0].id.as_ref().unwrap().starts_with("bad-"));
    let options = LoadOptions { on_fault: OnFault::Fail, ..LoadOptions::default() };
    assert!(matches!(load(&file, FileKind::LongBenchV2, &options), Err(Error::Item { .. })));
}

/// The letters are read behind the published form's beginning under every condition, with a loop and without, and are the
/// same whether the conditions run in one go or a later one takes up the recorded turns.
#[test]
fn rows_have_the_chances_of_the_letters() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, items) = (bench(), items(2));
    let conditions = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let all = ["full-kv", "latent-briefing:tau=4", "none", "direct"];
    let official = BenchPlan { scoring: Scoring::Official, tau: Vec::new(), ..plan(1) };
    let whole = BenchPlan { conditions: conditions(&all), ..official.clone() };
    let finished = run(&bench, &whole, &items, &dir.path().join("whole"), Existing::Refuse);
    assert_eq!(finished.rows.len(), 8);
    for row in &finished.rows {
        let letters = row.letters.as_ref().unwrap_or_else(|| panic!("{row:?}"));
        assert_eq!(letters.of.len(), 4, "{row:?}");
        assert!((letters.of.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{letters:?}");
        assert!(letters.mass > 0.0 && letters.mass <= 1.0, "{letters:?}");
    }
    let of =
        |name: &str| -> Vec<&AnswerRow> { finished.rows.iter().filter(|r| r.condition == name).collect() };
    assert!(of("full-kv").iter().zip(of("none")).any(|(full, none)| full.letters != none.letters));
    let summary = answers::summarise(&finished.rows, None, &Bootstrap::default()).unwrap();
    assert_eq!(summary.conditions.iter().filter(|f| f.letters.is_some()).count(), 3);
    let table = answers::table(&finished.rows, &conditions(&all));
    assert!(table.contains("letter as full-kv") && table.contains("KL, nats"), "{table}");

    // The full cache alone, then a condition that replays it: nothing is in common then.
    let turns = dir.path().join("turns");
    let one = BenchPlan { conditions: conditions(&all[..1]), ..official.clone() };
    run(&bench, &one, &items, &turns, Existing::Refuse);
    let mut replayed = bench.clone();
    replayed.turns = Some(Arc::new(RecordedTurns::open(&turns).unwrap()));
    let two = BenchPlan { conditions: conditions(&all[1..2]), ..official };
    let apart = run(&replayed, &two, &items, &dir.path().join("apart"), Existing::Refuse);
    for (together, apart) in of(all[1]).into_iter().zip(&apart.rows) {
        assert_eq!(together.answer, apart.answer);
        let (a, b) = (together.letters.as_ref().unwrap(), apart.letters.as_ref().unwrap());
        assert!(a.kl(b).unwrap() < 1e-6, "{a:?} {b:?}");
        assert_eq!((together.worker, together.calls), (apart.worker, apart.calls));
    }
}
