//! Every selection in a session: states, on-policy, chunks, batches.

use latent_briefing::am::registry;
use latent_briefing::prelude::*;
use latent_briefing::session::Error;

use super::{contents, notes};

const TASKS: [&str; 2] = ["Who keeps the Velmar ledger?", "Where is the Torwick vault?"];

fn config(name: &str) -> BriefConfig {
    Compaction::keep_ratio(0.4).with_selection(registry::parse(name).unwrap()).into()
}

fn bits(briefing: &Briefing) -> Vec<Vec<u32>> {
    let contents = contents(briefing.cache());
    contents.iter().map(|values| values.iter().map(|value| value.to_bits()).collect()).collect()
}

/// Or a typed error where it cannot be.
#[test]
fn every_selection_makes_every_kind_of_briefing() {
    let mut session = notes();
    for name in registry::names() {
        let plain = config(&name);
        for config in [
            plain.clone(),
            plain.clone().with_task_state(TaskState::Reuse),
            plain.clone().with_on_policy(true),
            plain.clone().with_chunking(Chunking::in_place(16)),
            plain.clone().with_queries(QuerySource::ContextPrefill),
            Compaction { budget: Compaction::error_below(0.5).budget, ..plain.compaction.clone() }.into(),
        ] {
            let briefing = session.brief(TASKS[0], &config).unwrap();
            let ratio = briefing.keep_ratio();
            assert!(ratio > 0.0 && ratio <= 1.0, "{config:?}");
            if config.chunking.is_none() && briefing.report().error_target.is_none() {
                assert!((ratio - 0.4).abs() < 0.02, "{config:?}: {ratio}");
            }
            assert_eq!(briefing.explain(session.worker()).len(), session.seq_len());
            assert!(
                session.ask(TASKS[0]).over(&briefing).run().unwrap().answer.tokens.generated > 0,
                "{config:?}"
            );
        }
        let apart = plain.with_chunking(Chunking::rerotated(16));
        let needs = apart.compaction.selection.selector().needs();
        match session.brief(TASKS[0], &apart) {
            Ok(_) => assert!(!needs.context && !needs.repeat, "{name}"),
            Err(Error::Config { field: "select", value, .. }) => {
                assert!(needs.context || needs.repeat, "{name}");
                assert_eq!(value, name);
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn together_and_compared_they_are_those_made_alone() {
    let session = notes();
    let configs: Vec<BriefConfig> = registry::names().iter().map(|name| config(name)).collect();
    let compared = session.brief_each(TASKS[0], &configs).unwrap();
    for (compared, config) in compared.iter().zip(&configs) {
        let name = &config.compaction.selection;
        let alone = session.brief(TASKS[0], config).unwrap();
        assert_eq!(bits(compared), bits(&alone), "{name}");
        let batch = session.brief_batch(TASKS, config.clone()).unwrap();
        assert_eq!(batch.len(), 2);
        // A pass over several tasks sums in another order, so that what is nearly equal may change places.
        let kept = |briefing: &Briefing| -> Vec<bool> {
            briefing.explain(session.worker()).iter().map(|position| position.kept).collect()
        };
        let (one, own) = (kept(&batch[0]), kept(&alone));
        let same = one.iter().zip(&own).filter(|(a, b)| a == b).count();
        assert!(10 * same >= 9 * own.len(), "{name}: {same} of {}", own.len());
        assert!((batch[0].keep_ratio() - alone.keep_ratio()).abs() < 1e-9, "{name}");
    }
}

/// A selection that reads the trajectory once more is charged for it, once in a batch.
#[test]
fn what_a_selection_reads_is_counted() {
    let mut session = notes();
    let mut prefilled = |text: &str| {
        let handoff: Handoff = text.parse().unwrap();
        session.ask(TASKS[0]).via(handoff).run().unwrap().record.tokens.prefilled
    };
    let plain = prefilled("latent-briefing:keep=0.4");
    assert_eq!(prefilled("latent-briefing:keep=0.4,select=snapkv(window=4)"), plain);
    let (h2o, kvzip) = (
        prefilled("latent-briefing:keep=0.4,select=h2o"),
        prefilled("latent-briefing:keep=0.4,select=kvzip"),
    );
    let seq_len = session.seq_len();
    assert_eq!(h2o, plain + seq_len);
    assert!(kvzip > plain + seq_len / 2, "{kvzip} after {plain}");
    let handoff: Handoff = "latent-briefing:keep=0.4,select=h2o".parse().unwrap();
    let outcomes = session.ask_all(TASKS).via(handoff).run().unwrap();
    let [first, second] = [0, 1].map(|index: usize| outcomes[index].record.tokens.prefilled);
    assert!(first > seq_len && second < seq_len, "{first} {second}");
}
