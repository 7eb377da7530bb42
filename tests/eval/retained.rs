//! How much of a trajectory's worth a handoff keeps: rows on the built-in worker, figures by hand.

use std::path::Path;

use latent_briefing::eval::Error;
use latent_briefing::eval::logs::{LogItem, generated};
use latent_briefing::eval::pipeline::Finished;
use latent_briefing::eval::retained::{
    Measured, RetainedPlan, RetainedRow, RetainedSummary, Target, picture, run, summarise, table,
};
use latent_briefing::eval::stats::bootstrap::Bootstrap;
use latent_briefing::session::{CancelToken, Segment};

use crate::support::{assert_error, embedded};

fn plan(conditions: &[&str], target: Target) -> RetainedPlan {
    let conditions = conditions.iter().map(ToString::to_string).collect();
    RetainedPlan { conditions, target, ..RetainedPlan::default() }
}

fn measure(
    plan: &RetainedPlan,
    items: &[LogItem],
    dir: Option<&Path>,
) -> Result<Finished<RetainedRow>, Error> {
    run(embedded(), plan, items, dir, &CancelToken::new(), &|_| {})
}

/// Without what a clock puts there, and without the last digits, which JSON may round.
fn timeless(rows: &[RetainedRow]) -> Vec<RetainedRow> {
    let round = |x: f64| (x * 1e9).round() / 1e9;
    let still = |m: &Measured| Measured {
        brief_ms: 0.0,
        prefill_ms: 0.0,
        renewal_ms: 0.0,
        nll: round(m.nll),
        kl: round(m.kl),
        agreement: round(m.agreement),
        kept: round(m.kept),
        ..m.clone()
    };
    let row = |row: &RetainedRow| RetainedRow {
        full: still(&row.full),
        none: still(&row.none),
        conditions: row.conditions.iter().map(still).collect(),
        read_ms: 0.0,
        // An item that goes on where the last one ended has less to read than one that is read alone.
        read_tokens: 0,
        ..row.clone()
    };
    rows.iter().map(row).collect()
}

#[test]
fn the_whole_cache_retains_all_and_nothing_nothing() {
    let items = generated(60_000, 3, 2).unwrap();
    let names = [
        "full-kv",
        "none",
        "latent-briefing:keep=1",
        "snapkv:keep=1",
        "text-replay",
        "latent-briefing:keep=0.2",
        "recent:0.05",
    ];
    let plan = plan(&names, Target::Reference);
    let rows = measure(&plan, &items, None).unwrap().rows;
    assert_eq!(rows.len(), items.len());
    for (row, item) in rows.iter().zip(&items) {
        assert_eq!((&row.item, &row.document), (&item.id, &item.document));
        assert_eq!(
            row.target_text,
            format!("{}<|im_end|>", item.target),
            "the recorded answer is what is read"
        );
        assert!(row.conditions.iter().map(|m| m.handoff.as_str()).eq(names));
        // Everything kept is the full cache, up to the order of sums.
        for m in &row.conditions[2..5] {
            assert!((m.nll - row.full.nll).abs() < 1e-3, "{m:?} {:?}", row.full);
            assert!(m.kl < 1e-4 && m.agreement > 0.99, "{m:?}");
        }
        let kept = row.conditions[5].kept;
        assert!((0.19..0.23).contains(&kept), "{kept}");
        let tokens = row.conditions.iter().map(|m| m.worker_tokens).collect::<Vec<_>>();
        assert!(tokens[1] < tokens[6] && tokens[6] < tokens[5] && tokens[5] < tokens[0], "{tokens:?}");
        assert_eq!(tokens[0], row.full.worker_tokens);
    }
    let summary = summarise("w", "d", &rows, &Bootstrap::default()).unwrap();
    let retained: Vec<f64> = summary.conditions.iter().map(|c| c.retained.unwrap()).collect();
    assert!((retained[0] - 1.0).abs() < 1e-9 && retained[1].abs() < 1e-9, "{retained:?}");
    assert!(retained[5] > retained[6] + 0.2, "a briefing keeps more than the most recent: {retained:?}");
    assert_eq!((summary.items, summary.documents, summary.failed), (6, 3, 0));
    let text = table(&summary);
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
}

#[test]
fn what_the_worker_writes_itself_ends_with_its_end() {
    let items = generated(60_000, 2, 2).unwrap();
    let rows = measure(&plan(&["latent-briefing:keep=0.1"], Target::Own), &items, None).unwrap().rows;
    for row in &rows {
        assert_eq!(row.target, Target::Own);
        assert!(row.target_text.ends_with("<|im_end|>") || row.target_tokens == 96, "{row:?}");
    }
    // What the full cache writes is likelier over it than without it.
    let sum = |of: fn(&RetainedRow) -> f64| rows.iter().map(of).sum::<f64>();
    assert!(sum(|row| row.full.nll) < sum(|row| row.none.nll), "{rows:?}");
    // Cut at a length: as many tokens.
    let short = RetainedPlan { target_tokens: 2, ..plan(&["none"], Target::Own) };
    assert!(measure(&short, &items, None).unwrap().rows.iter().all(|row| row.target_tokens <= 2));
}

#[test]
fn a_run_that_was_stopped_goes_on_and_other_plans_are_refused() {
    let items = generated(61_000, 2, 2).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (plan, folder) = (plan(&["latent-briefing:keep=0.1"], Target::Reference), dir.path().join("run"));
    let whole = measure(&plan, &items, None).unwrap();

    let cancel = CancelToken::new();
    let stopped = run(embedded(), &plan, &items, Some(&folder), &cancel, &|_| cancel.cancel()).unwrap();
    assert!(stopped.cancelled && stopped.rows.len() == 1);
    // A line that was being written when the process died.
    let rows = folder.join("rows.jsonl");
    let mut text = std::fs::read_to_string(&rows).unwrap();
    text.push_str("{\"item\": \"6");
    std::fs::write(&rows, text).unwrap();
    let resumed = measure(&plan, &items, Some(&folder)).unwrap();
    assert_eq!(resumed.resumed, 1);
    assert_eq!(timeless(&resumed.rows), timeless(&whole.rows));
    assert_eq!(std::fs::read_to_string(&rows).unwrap().lines().count(), items.len(), "one line an item");
    let again = measure(&plan, &items, Some(&folder)).unwrap();
    assert_eq!((again.resumed, timeless(&again.rows)), (items.len(), timeless(&resumed.rows)));

    let other = RetainedPlan { target_tokens: 5, ..plan.clone() };
    let error = measure(&other, &items, Some(&folder)).unwrap_err();
    assert_error!(error, Error::PlanChanged { .. }, "target_tokens", "96", "5");
    let error = measure(&plan, &items[..3], Some(&folder)).unwrap_err();
    assert_error!(error, Error::PlanChanged { .. }, "items");
}

/// Steps of one log share their beginning; what was read for one is not read again for the next, and changes nothing.
#[test]
fn steps_of_one_log_are_as_if_each_was_read_alone() {
    let mut items = generated(62_000, 1, 2).unwrap();
    let half = items[0].trajectory.len() / 2;
    items[1].trajectory.truncate(half);
    let plan = plan(&["latent-briefing:keep=0.2", "snapkv:keep=0.2"], Target::Reference);
    let both = measure(&plan, &items, None).unwrap().rows;
    let alone: Vec<RetainedRow> = items
        .iter()
        .flat_map(|item| measure(&plan, std::slice::from_ref(item), None).unwrap().rows)
        .collect();
    assert!(both[1].seq_len < both[0].seq_len);
    for (a, b) in both.iter().zip(&alone) {
        assert_eq!((a.seq_len, a.target_tokens), (b.seq_len, b.target_tokens));
        for (a, b) in a.conditions.iter().zip(&b.conditions) {
            assert!((a.nll - b.nll).abs() < 1e-3, "{a:?} {b:?}");
        }
    }
}

#[test]
fn an_item_that_cannot_be_measured_is_a_row_that_says_why() {
    let mut items = generated(63_000, 1, 3).unwrap();
    items[0].target.clear();
    items[1].trajectory = vec![Segment::tool("lorem ipsum ".repeat(40_000))];
    let rows = measure(&plan(&["latent-briefing:keep=0.1"], Target::Reference), &items, None).unwrap().rows;
    let failures: Vec<&str> = rows.iter().map(|row| row.failure.as_deref().unwrap_or("")).collect();
    assert!(failures[0].contains("target"), "{failures:?}");
    assert!(failures[1].contains("position"), "{failures:?}");
    assert!(failures[2].is_empty());
    let summary = summarise("w", "d", &rows, &Bootstrap::default()).unwrap();
    assert_eq!((summary.items, summary.failed), (1, 2));
}

#[test]
fn plans_out_of_range_are_refused() {
    let items = generated(60_000, 1, 1).unwrap();
    let refused = |conditions: &[&str], tokens: usize| {
        let plan = RetainedPlan { target_tokens: tokens, ..plan(conditions, Target::Reference) };
        measure(&plan, &items, None).unwrap_err()
    };
    assert_error!(refused(&["none"], 0), Error::Config { .. }, "target_tokens", "1 to 4096");
    assert_error!(refused(&[], 96), Error::Config { .. }, "conditions", "at least one");
    assert_error!(refused(&["none", "none"], 96), Error::Config { .. }, "there twice");
    assert_error!(refused(&["snapkv"], 96), Error::Config { .. }, "want a size");
    assert_error!(refused(&["snapkv:keep=0.1,state=reuse"], 96), Error::Config { .. }, "state", "read anew");
    assert_error!(refused(&["direct"], 96), Error::Config { .. }, "direct", "question sets");
    assert_error!(
        refused(&["latent-briefing:score=min"], 96),
        Error::Session(_),
        "score",
        "mean, max or rms"
    );
    assert_error!("best".parse::<Target>().unwrap_err(), Error::Config { .. }, "reference or own");
}

/// Two documents of two and one items, worked out by hand.
#[test]
fn figures_are_sums_over_items_and_intervals_over_documents() {
    let measured = |handoff: &str, nll: f64| Measured {
        handoff: handoff.to_owned(),
        nll,
        agreement: 0.5,
        kl: 0.25,
        kept: 0.1,
        worker_tokens: 100,
        brief_ms: 3.0,
        ..Measured::default()
    };
    let row = |document: &str, full: f64, none: f64, nlls: [f64; 2]| RetainedRow {
        item: format!("{document}#{full}"),
        document: document.to_owned(),
        full: measured("full-kv", full),
        none: measured("none", none),
        conditions: vec![measured("latent-briefing:keep=0.1", nlls[0]), measured("snapkv:keep=0.1", nlls[1])],
        ..RetainedRow::default()
    };
    let rows =
        [row("a", 1.0, 3.0, [1.5, 2.0]), row("a", 1.2, 2.2, [1.2, 2.2]), row("b", 0.5, 4.5, [2.5, 2.5])];
    let summary = summarise("w", "d", &rows, &Bootstrap::default()).unwrap();
    // Sums: full 2.7, none 9.7; conditions 5.2 and 6.7.
    let [first, second] = &summary.conditions[..] else { panic!("two conditions") };
    assert!((first.retained.unwrap() - (1.0 - 2.5 / 7.0)).abs() < 1e-12, "{first:?}");
    assert!((second.retained.unwrap() - (1.0 - 4.0 / 7.0)).abs() < 1e-12, "{second:?}");
    let difference = second.difference.as_ref().unwrap();
    assert_eq!(difference.to, "latent-briefing:keep=0.1");
    assert!((difference.retained + 1.5 / 7.0).abs() < 1e-12, "{difference:?}");
    assert!(first.difference.is_none());
    // Sizes are compared with their own.
    let names =
        ["latent-briefing:keep=0.1", "latent-briefing:keep=0.05", "snapkv:keep=0.05,state=recompute", "none"];
    let conditions = names.iter().zip([1.5, 2.0, 1.7, 3.0]).map(|(name, nll)| measured(name, nll)).collect();
    let sized = [RetainedRow { conditions, ..rows[0].clone() }];
    let sized = summarise("w", "d", &sized, &Bootstrap::default()).unwrap().conditions;
    let to = |at: usize| sized[at].difference.as_ref().map(|d| d.to.as_str());
    assert_eq!([to(0), to(1), to(2), to(3)], [None, None, Some(names[1]), Some(names[0])]);
    // One document alone retains 1 - 0.5/3, the other 1/2: no resample is outside.
    let [low, high] = first.ci95.unwrap();
    assert!((0.5 - 1e-9..=1.0 - 0.5 / 3.0 + 1e-9).contains(&low) && low < high, "{low} {high}");
    assert_eq!((summary.items, summary.documents), (3, 2));

    // A briefing of 3 ms; two items were read in 10 and 30 ms, the second half of it, one does not say.
    let mut timed = rows.to_vec();
    (timed[0].seq_len, timed[0].read_tokens, timed[0].read_ms) = (100, 100, 10.0);
    (timed[1].seq_len, timed[1].read_tokens, timed[1].read_ms) = (100, 50, 15.0);
    // What had nothing to read says nothing of that.
    let mut idle = timed[0].clone();
    (idle.read_tokens, idle.read_ms) = (0, 0.001);
    timed.extend([idle.clone(), idle]);
    assert_eq!(first.brief_share, None);
    let timed = summarise("w", "d", &timed, &Bootstrap::default()).unwrap();
    assert!((timed.conditions[0].brief_share.unwrap() - 0.2).abs() < 1e-12);
    assert!(table(&timed).contains("of reading") && !table(&summary).contains("of reading"));

    let dir = tempfile::tempdir().unwrap();
    for (name, summary) in [("two.png", summary), ("none.png", RetainedSummary::default())] {
        let path = dir.path().join(name);
        picture(&summary, &path).unwrap();
        assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
    }
    let nowhere = dir.path().join("no/such/folder.png");
    assert_error!(picture(&timed, &nowhere).unwrap_err(), Error::Io { .. }, "folder.png");

    // A trajectory that helps nobody: there is nothing to retain.
    let rows = [row("a", 3.0, 3.0, [2.0, 2.0])];
    let summary = summarise("w", "d", &rows, &Bootstrap::default()).unwrap();
    assert_eq!(summary.conditions[0].retained, None);
    assert!(table(&summary).contains("none to retain"));
}

/// Parts of a run on several machines, put together, are the run; parts of another run are refused.
#[test]
fn parts_put_together_are_the_whole() {
    use latent_briefing::eval::pipeline::{Shard, merge};

    let items = generated(300, 3, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plan = plan(&["none", "recent:0.5"], Target::Reference);
    let plan = RetainedPlan { target_tokens: 4, ..plan };
    let run = |name: &str, shard: &str, plan: &RetainedPlan| {
        let plan = RetainedPlan { shard: shard.parse().unwrap(), ..plan.clone() };
        measure(&plan, &items, Some(&at(name))).unwrap().rows
    };
    let whole = run("whole", "1/1", &plan);
    let parts = [run("one", "1/2", &plan), run("two", "2/2", &plan)];
    assert!(parts.iter().all(|part| !part.is_empty() && part.len() < whole.len()));
    assert_eq!(merge(&[at("one"), at("two"), at("one")], &at("all")).unwrap(), whole.len());
    // Nothing is left to do.
    let again = run("all", "1/1", &plan);
    let ids = |rows: &[RetainedRow]| rows.iter().map(|row| row.item.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&whole));
    assert!(merge(&[at("one")], &at("all")).unwrap_err().to_string().contains("holds a benchmark"));
    let other = RetainedPlan { target_tokens: 5, ..plan };
    run("other", "1/2", &other);
    let refused = merge(&[at("one"), at("other")], &at("none")).unwrap_err().to_string();
    assert!(refused.contains("target_tokens"), "{refused}");
    for wrong in ["0/2", "3/2", "1", "a/b", ""] {
        assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
    }
}

/// Of what each condition leaves in the cache; where there is no cache of the trajectory there is no rank.
#[test]
fn ranks_are_measured_where_that_is_asked() {
    let items = generated(62_000, 1, 1).unwrap();
    let names =
        ["full-kv", "latent-briefing:keep=0.2", "latent-briefing:keep=0.02", "snapkv:keep=0.2", "none"];
    let asked = RetainedPlan { rank: true, ..plan(&names, Target::Reference) };
    let rows = measure(&asked, &items, None).unwrap().rows;
    let ranks: Vec<_> = rows[0].conditions.iter().map(|m| m.rank).collect();
    let [Some(full), Some(fifth), Some(fiftieth), Some(selected), None] = ranks[..] else {
        panic!("{ranks:?}")
    };
    for (less, more) in [(fiftieth, fifth), (fifth, full), (selected, full)] {
        assert!(1.0 <= less.keys && less.keys < more.keys && less.values < more.values, "{ranks:?}");
    }
    assert!(full.values <= 64.0, "no more directions than a head is wide: {full:?}");
    let summary = summarise("w", "d", &rows, &Bootstrap::default()).unwrap();
    assert!(table(&summary).contains(&format!("{:.1}, {:.1}", full.keys, full.values)));

    let unasked = measure(&plan(&names, Target::Reference), &items, None).unwrap().rows;
    assert!(unasked[0].conditions.iter().all(|m| m.rank.is_none()));
    assert!(!table(&summarise("w", "d", &unasked, &Bootstrap::default()).unwrap()).contains("rank"));
    let plan = serde_json::to_value(plan(&names, Target::Reference)).unwrap();
    assert!(plan.get("rank").is_none(), "folders of before are gone on with: {plan}");
}
