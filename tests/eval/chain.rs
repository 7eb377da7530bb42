//! Two handoffs, one behind the other.

use latent_briefing::eval::condition::{Condition, Way, split_conditions};
use latent_briefing::eval::logs;
use latent_briefing::eval::retained::{self, RetainedPlan};
use latent_briefing::session::{CancelToken, Handoff, OpenSession, Segment};

use crate::support::embedded;

fn plan(conditions: &[&str]) -> RetainedPlan {
    let conditions = conditions.iter().map(|text| (*text).to_owned()).collect();
    RetainedPlan { conditions, ..RetainedPlan::default() }
}

#[test]
fn the_worker_reads_what_the_first_writes_and_gets_what_the_second_hands_over() {
    let made = logs::generated(50_000, 1, 2).unwrap();
    let plan = plan(&[
        "text-replay+full-kv",
        "text-replay+latent-briefing:keep=0.3",
        "bm25:0.5+latent-briefing:keep=0.4",
        "summary:32,by=orchestrator",
        "summary:32,by=orchestrator+latent-briefing:keep=0.9",
    ]);
    let cancel = CancelToken::new();
    let finished =
        retained::run_beside(embedded(), Some(embedded()), &plan, &made, None, &cancel, &|_| {}).unwrap();
    assert!(!finished.rows.is_empty());
    for row in &finished.rows {
        assert_eq!(row.failure, None);
        let [whole, briefed, picked, told, cut] = &row.conditions[..] else { panic!("{row:?}") };
        assert!((0.9..1.2).contains(&whole.kept), "{}", whole.kept);
        // Nothing is lost but that everything is one line now.
        assert!(row.none.nll - whole.nll > 0.5 * (row.none.nll - row.full.nll), "{whole:?}");
        assert!(whole.made_tokens >= row.seq_len * 9 / 10, "{}", whole.made_tokens);
        assert!((0.25..0.4).contains(&briefed.kept), "{}", briefed.kept);
        assert!((0.1..0.25).contains(&picked.kept), "{}", picked.kept);
        assert!(picked.made_tokens < briefed.made_tokens);
        assert!(told.kept < 0.5 && cut.kept < told.kept, "{} {}", told.kept, cut.kept);
    }
}

#[test]
fn a_chain_begins_with_text_and_an_orchestrator_must_be_there() {
    let condition: Condition =
        "selective-context:keep=0.5,unit=sentence+latent-briefing:keep=0.2".parse().unwrap();
    let Way::Chain(chain) = &condition.way else { panic!("{condition:?}") };
    assert_eq!(chain.text, "selective-context:keep=0.5,unit=sentence".parse().unwrap());
    assert_eq!(chain.then, "latent-briefing:keep=0.2".parse().unwrap());
    assert!(!chain.by_orchestrator);
    let condition: Condition = "summary:200,by=orchestrator,scope=task".parse().unwrap();
    let Way::Chain(chain) = &condition.way else { panic!("{condition:?}") };
    assert!(chain.by_orchestrator && chain.then == Handoff::FullKv);
    assert_eq!(chain.text, "summary:200,scope=task".parse().unwrap());
    assert_eq!(
        split_conditions("none,bm25:0.5,passage=40+latent-briefing:keep=0.2,draft=0,full-kv"),
        ["none", "bm25:0.5,passage=40+latent-briefing:keep=0.2,draft=0", "full-kv"]
    );
    for wrong in [
        "snapkv:keep=0.1+full-kv",
        "latent-briefing:keep=0.1+full-kv",
        "full-kv,by=orchestrator",
        "recent:0.5+notes",
    ] {
        let refused = wrong.parse::<Condition>();
        assert!(refused.is_err(), "{wrong}: {refused:?}");
    }
    let made = logs::generated(50_000, 1, 1).unwrap();
    let alone = plan(&["summary:32,by=orchestrator"]);
    let refused = retained::run(embedded(), &alone, &made, None, &CancelToken::new(), &|_| {}).unwrap_err();
    assert!(refused.to_string().contains("wants an orchestrator"), "{refused}");
}

#[test]
fn the_text_of_a_handoff_is_there_without_an_answer() {
    let mut session = embedded().session().unwrap();
    session.extend(Segment::finding("The Velmar ledger is kept by Anara.")).unwrap();
    session.extend(Segment::finding("The Oslund beacon has 40 lamps.")).unwrap();
    let task = "Who keeps the Velmar ledger?";
    let handed = session.ask(task).via(Handoff::TextReplay).text().unwrap();
    assert!(handed.text.contains("kept by Anara") && handed.text.contains("40 lamps"), "{}", handed.text);
    assert_eq!((handed.tokens, handed.seq_len), (session.seq_len(), session.seq_len()));
    let some = session.ask(task).via("bm25:0.6".parse::<Handoff>().unwrap()).text().unwrap();
    assert!(some.text.contains("Anara") && some.tokens < handed.tokens, "{}", some.text);
    assert!(session.ledger().calls().is_empty());
    for cache in [Handoff::FullKv, "latent-briefing:keep=0.5".parse().unwrap(), "recent:0.5".parse().unwrap()]
    {
        let refused = session.ask(task).via(cache).text().unwrap_err();
        assert!(refused.to_string().contains("hands over a cache"), "{refused}");
    }
}
