//! One worker call over a trajectory of the built-in worker: by text replay, over the full cache, over a briefing; and what
//! making the briefing costs. `cargo bench --bench session`

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use latent_briefing::eval::episodes::{Episode, EpisodeConfig};
use latent_briefing::prelude::*;

/// Lengths of the log in words; a word is about one and a half tokens.
const WORDS: [usize; 3] = [300, 600, 1200];

fn calls(c: &mut Criterion) {
    let worker = Worker::embedded().expect("the built-in worker loads");
    let compaction = Compaction::keep_ratio(0.1);
    let mut group = c.benchmark_group("session");
    group.sample_size(10);
    for words in WORDS {
        let episode = Episode::generate(1, &EpisodeConfig::held_out((words, words), 1)).expect("in range");
        let question = episode.questions[0].text.as_str();
        let mut session = worker.session().expect("the template fits");
        session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {}).expect("the log fits");
        let tokens = session.seq_len();
        for handoff in [Handoff::TextReplay, Handoff::FullKv, Handoff::briefing(compaction.clone())] {
            group.bench_function(BenchmarkId::new(handoff.name(), tokens), |b| {
                b.iter(|| session.answer_via(&handoff, question).expect("answers"));
            });
        }
        group.bench_function(BenchmarkId::new("brief", tokens), |b| {
            b.iter(|| session.brief(question, &compaction).expect("briefs"));
        });
    }
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
