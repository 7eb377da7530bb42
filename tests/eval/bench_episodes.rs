//! Questions about generated logs as rows of a benchmark.

use std::collections::BTreeMap;
use std::path::Path;

use latent_briefing::eval::Error;
use latent_briefing::eval::answers::AnswerRow;
use latent_briefing::eval::calls::{self, EpisodePlan, Logs};
use latent_briefing::eval::condition::{Condition, Way, at_each_size, split_conditions};
use latent_briefing::eval::datasets::ruler::NativeTask;
use latent_briefing::eval::pipeline::{Existing, Finished, read_rows};
use latent_briefing::session::CancelToken;

use crate::support::{assert_error, embedded};

fn plan(conditions: &[&str], jobs: usize) -> EpisodePlan {
    EpisodePlan {
        conditions: conditions.iter().map(ToString::to_string).collect(),
        logs: vec![Logs::HeldOut { tokens: (300, 500), questions: 2 }],
        episodes: 2,
        seed: 7_000,
        jobs,
        ..EpisodePlan::default()
    }
}

fn run(plan: &EpisodePlan, dir: &Path, existing: Existing) -> Result<Finished<AnswerRow>, Error> {
    calls::run(embedded(), plan, dir, existing, &CancelToken::new(), &|_| {})
}

/// By item and condition, without what a clock puts there.
fn content(rows: &[AnswerRow]) -> BTreeMap<(String, String), AnswerRow> {
    let timeless = |row: &AnswerRow| AnswerRow {
        brief_s: 0.0,
        prefill_s: 0.0,
        decode_s: 0.0,
        elapsed_s: 0.0,
        ..row.clone()
    };
    rows.iter().map(|row| ((row.item.clone(), row.condition.clone()), timeless(row))).collect()
}

#[test]
fn conditions_answer_the_same_questions_and_a_cut_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let names = [
        "full-kv",
        "text-replay",
        "latent-briefing:keep=0.2",
        "snapkv:keep=0.2",
        "snapkv:keep=1",
        "snapkv:keep=1,state=reuse",
    ];
    let alone = run(&plan(&names, 1), &one, Existing::Refuse).unwrap();
    assert_eq!(alone.rows.len(), 2 * 2 * names.len());
    let both = run(&plan(&names, 2), &two, Existing::Refuse).unwrap();
    assert_eq!(content(&alone.rows), content(&both.rows));
    let rows = content(&alone.rows);
    for ((item, condition), row) in rows.iter().filter(|((_, condition), _)| condition == "full-kv") {
        let of = |name: &str| &rows[&(item.clone(), name.to_owned())];
        assert!((300..=500).contains(&row.seq_len), "{item} {condition}: {}", row.seq_len);
        // A selection of everything is the full cache, and replay reads what the cache holds.
        for same in ["text-replay", "snapkv:keep=1", "snapkv:keep=1,state=reuse"] {
            assert_eq!(
                (&of(same).answer, of(same).worker.attended),
                (&row.answer, row.worker.attended),
                "{same}"
            );
        }
        let task = row.worker.attended - row.seq_len;
        for small in ["latent-briefing:keep=0.2", "snapkv:keep=0.2"] {
            let kept = of(small).worker.attended - task;
            assert_eq!(kept, row.seq_len.div_ceil(5), "{small}");
        }
        assert_eq!((row.keep_ratio, row.dataset.as_str()), (Some(1.0), "synthetic episodes"));
    }
    let clusters: std::collections::BTreeSet<u64> = rows.values().map(|row| row.cluster).collect();
    assert_eq!(clusters.len(), 2, "questions about one log are one cluster");

    let path = one.join("rows.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 50]).unwrap();
    let resumed = run(&plan(&names, 1), &one, Existing::Resume).unwrap();
    assert_eq!((resumed.resumed, resumed.rows.len()), (alone.rows.len() - 1, alone.rows.len()));
    assert_eq!(content(&read_rows(&one).unwrap().rows), rows);
    let refused = run(&plan(&names, 1), &one, Existing::Refuse).unwrap_err();
    assert_error!(refused, Error::Config { field: "out", .. }, "resume");
    let changed = run(&plan(&names[..2], 1), &one, Existing::Resume).unwrap_err();
    assert_error!(changed, Error::PlanChanged { .. }, "conditions");
}

#[test]
fn tasks_in_the_manner_of_ruler_have_kind_and_length() {
    let dir = tempfile::tempdir().unwrap();
    let native = |task, tokens| Logs::Native { task, tokens };
    let logs = vec![native(NativeTask::Needle, 128), native(NativeTask::Tracking { hops: 2 }, 256)];
    let plan = EpisodePlan { logs, episodes: 1, ..plan(&["full-kv", "none"], 1) };
    let rows = run(&plan, dir.path(), Existing::Refuse).unwrap().rows;
    let classes: Vec<_> =
        rows.iter().map(|row| (row.kind.as_str(), row.length.as_deref().unwrap())).collect();
    assert_eq!(classes, [("needle", "128"), ("needle", "128"), ("tracking-2", "256"), ("tracking-2", "256")]);
    assert!(rows.iter().all(|row| row.seq_len <= 300 && row.difficulty.is_none()));
    for task in NativeTask::ALL {
        assert_eq!(task.name().parse::<NativeTask>().unwrap(), task);
    }
    assert_error!(
        "haystack".parse::<NativeTask>().unwrap_err(),
        Error::Config { field: "task", .. },
        "needle"
    );
}

#[test]
fn plans_out_of_range_are_refused() {
    let good = || plan(&["full-kv"], 1);
    let wrong = [
        ("episodes", EpisodePlan { episodes: 0, ..good() }),
        ("jobs", EpisodePlan { jobs: 2_000, ..good() }),
        ("logs", EpisodePlan { logs: Vec::new(), ..good() }),
        ("validation_share", EpisodePlan { validation_share: 1.0, ..good() }),
        ("tokens", EpisodePlan { logs: vec![Logs::HeldOut { tokens: (500, 300), questions: 1 }], ..good() }),
        ("conditions", plan(&[], 1)),
        ("conditions", plan(&["full-kv", " full-kv"], 1)),
        ("conditions", plan(&["snapkv"], 1)),
        ("conditions", plan(&["snapkv:tau=1"], 1)),
        ("conditions", plan(&["direct"], 1)),
    ];
    for (name, plan) in wrong {
        let error = plan.validate().unwrap_err();
        assert!(matches!(error, Error::Config { field, .. } if field == name), "{name}: {error}");
    }
    for text in ["snapkv:keep=2", "snapkv:keep=0.1,fit=none", "no-such"] {
        assert!(matches!(plan(&[text], 1).validate(), Err(Error::Session(_))), "{text}");
    }
}

#[test]
fn conditions_are_split_at_names() {
    let text =
        "full-kv,bm25:0.1,passage=40;none, snapkv:keep=0.1,latent-briefing:keep=0.1,state=reuse,direct";
    let names = [
        "full-kv",
        "bm25:0.1,passage=40",
        "none",
        "snapkv:keep=0.1",
        "latent-briefing:keep=0.1,state=reuse",
        "direct",
    ];
    assert_eq!(split_conditions(text), names);
    assert_eq!(split_conditions("nonsense"), ["nonsense"]);
    let names = split_conditions("full-kv,snapkv:keep=*,state=reuse");
    let all = at_each_size(names.clone(), &[0.1, 0.05]).unwrap();
    assert_eq!(all, ["full-kv", "snapkv:keep=0.1,state=reuse", "snapkv:keep=0.05,state=reuse"]);
    assert_error!(at_each_size(names, &[]).unwrap_err(), Error::Config { field: "keep", .. }, "sizes");
    // What is parsed is printed as it was written.
    for condition in Condition::read_all(&split_conditions(text)).unwrap() {
        assert_eq!(condition.to_string().parse::<Condition>().unwrap(), condition);
        assert_eq!(matches!(condition.way, Way::Selection(_)), condition.name.starts_with("snapkv"));
    }
}
