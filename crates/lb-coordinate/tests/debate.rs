//! Debates, with the built-in worker.

use lb_coordinate::{Debate, DebateConfig, Told};
use lb_model::Worker;
use lb_session::{OpenSession, Segment};

const QUESTION: &str = "Who keeps the Oslo ledger?";

fn plain(text: &str) -> String {
    text.trim().trim_end_matches('.').to_lowercase()
}

#[test]
fn agents_that_agree_end_early_and_the_rest_costs_what_it_says() {
    let worker = Worker::embedded().unwrap();
    let mut session = worker.session().unwrap();
    for line in ["The Oslo ledger is kept by Ana.", "The Lima vault is kept by Bo."] {
        session.extend(Segment::finding(line)).unwrap();
    }
    let before = session.seq_len();
    let greedy = DebateConfig { temperature: 0.0, ..DebateConfig::default() };
    let ended = Debate::new(&session, greedy.clone()).unwrap().run(QUESTION, &Told::Diff, &plain).unwrap();
    assert_eq!((ended.rounds, ended.agreed, ended.votes), (1, true, 3));
    assert_eq!((ended.replies.len(), ended.heard), (3, 0));

    // Led to its end, everyone hears two others in each further round.
    let on = DebateConfig { ends_early: false, rounds: 3, ..greedy };
    let debate = Debate::new(&session, on).unwrap();
    let run = |told: &str| debate.run(QUESTION, &told.parse().unwrap(), &plain).unwrap();
    let (text, diff, brief) = (run("text"), run("diff"), run("latent-briefing:keep=0.2"));
    for one in [&text, &diff, &brief] {
        assert_eq!((one.rounds, one.replies.len()), (3, 9));
        let sum: usize = one.replies.iter().map(|reply| reply.tokens.prefilled).sum();
        assert_eq!(one.tokens.prefilled, sum);
    }
    assert_eq!(text.heard, 0);
    assert!(diff.heard > 0);
    assert!(text.tokens.prefilled > diff.tokens.prefilled + diff.heard);
    assert!(brief.tokens.attended < diff.tokens.attended);
    // The session that they began with is as it was.
    assert_eq!(session.seq_len(), before);
    assert_eq!(run("diff").replies, diff.replies);
}

#[test]
fn ranges_are_checked_by_name() {
    let worker = Worker::embedded().unwrap();
    let session = worker.session().unwrap();
    let of = |config: DebateConfig| Debate::new(&session, config).unwrap_err().to_string();
    let base = DebateConfig::default;
    assert!(of(DebateConfig { agents: 1, ..base() }).starts_with("agents = 1"));
    assert!(of(DebateConfig { rounds: 0, ..base() }).starts_with("rounds = 0"));
    assert!(of(DebateConfig { temperature: f64::NAN, ..base() }).starts_with("temperature"));
    assert!("latent-briefing:keep=7".parse::<Told>().is_err());
}
