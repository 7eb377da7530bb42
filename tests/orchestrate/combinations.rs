//! Every selection, budget and fit makes a briefing that the worker answers over.

use latent_briefing::am::{Omp, Selection, Spans, Units, ValuesMethod};
use latent_briefing::prelude::*;

use super::notes;

const TASK: &str = "Who keeps the Velmar ledger?";

#[test]
fn every_selection_and_budget_makes_a_briefing() {
    let mut session = notes();
    let selections =
        [Selection::shared(), Selection::per_layer(), Selection::per_head(), Selection::omp(Omp::default())];
    let budgets = [
        Compaction::keep_ratio(0.4),
        Compaction::kept_len(20),
        Compaction::mad(1.0),
        Compaction::error_below(0.3),
    ];
    for selection in selections {
        for budget in &budgets {
            for (spans, values) in [
                (Spans::default(), ValuesMethod::default()),
                (Spans::Units(Units::Sentences), ValuesMethod::RidgeLeaveOneOut),
            ] {
                let compaction =
                    budget.clone().with_selection(selection.clone()).with_spans(spans).with_values(values);
                for on_policy in [false, true] {
                    let config = BriefConfig::from(&compaction).with_on_policy(on_policy);
                    let briefing = session.brief(TASK, &config).unwrap();
                    assert_eq!(briefing.cache().logical_len(), session.seq_len());
                    assert!(briefing.keep_ratio() > 0.0 && briefing.keep_ratio() <= 1.0);
                    assert!(briefing.cache().bytes() <= session.cache().bytes() * 11 / 10);
                    let answer = session.ask(TASK).over(&briefing).run().unwrap().answer;
                    assert!(answer.tokens.generated > 0, "{config:?}");
                }
            }
        }
    }
}
