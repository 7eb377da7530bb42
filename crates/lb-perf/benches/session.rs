//! One worker call over a trajectory of the built-in worker: by text replay, over the full cache, over a briefing; the same
//! with a new finding read first; and what making the briefing costs. `cargo bench -p lb-perf --bench session`

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use latent_briefing::am::{Observed, ScoreAgg};
use latent_briefing::model::PrefillOptions;
use latent_briefing::prelude::*;
use lb_eval::episodes::{Episode, EpisodeConfig};

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
        let started = || {
            let mut session = worker.session().expect("the template fits");
            session
                .extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {})
                .expect("the log fits");
            session
        };
        let mut session = started();
        let tokens = session.seq_len();
        for handoff in [Handoff::TextReplay, Handoff::FullKv, Handoff::briefing(compaction.clone())] {
            group.bench_function(BenchmarkId::new(handoff.name(), tokens), |b| {
                b.iter(|| session.ask(question).via(&handoff).run().expect("answers"));
            });
            group.bench_function(BenchmarkId::new(format!("extend + {}", handoff.name()), tokens), |b| {
                let call = |mut session: WorkerSession| {
                    session
                        .extend(Segment::finding("Nothing more was found in this part."))
                        .expect("it fits");
                    session.ask(question).via(&handoff).run().expect("answers")
                };
                b.iter_batched(started, call, BatchSize::PerIteration);
            });
        }
        group.bench_function(BenchmarkId::new("brief", tokens), |b| {
            b.iter(|| session.brief(question, &compaction).expect("briefs"));
        });
    }
    group.finish();
}

/// What the scores of a briefing cost on top of the pass that reads the task, and in a pass of their own.
fn scores(c: &mut Criterion) {
    let worker = Worker::embedded().expect("the built-in worker loads");
    let episode = Episode::generate(1, &EpisodeConfig::held_out((1200, 1200), 1)).expect("in range");
    let mut session = worker.session().expect("the template fits");
    session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {}).expect("the log fits");
    let tokens = worker.tokenizer().encode_text(&episode.questions[0].text).expect("encodes");
    let (model, cache) = (worker.model(), session.cache());
    let options = PrefillOptions::default();
    let read =
        || model.prefill_capturing(&tokens, &mut cache.fork(), &options, &mut |_, _| {}).expect("reads");
    let (queries, layers) = (read().queries, cache.layer_views(0, cache.logical_len()).expect("layers"));
    let mut group = c.benchmark_group("scores");
    group.bench_function("reading the task", |b| b.iter(read));
    group.bench_function("reading the task and noting", |b| {
        b.iter(|| model.forward_observing(&tokens, &mut cache.fork(), ScoreAgg::Mean).expect("reads"));
    });
    group.bench_function("a pass of their own", |b| {
        b.iter(|| Observed::all(&layers, &queries, ScoreAgg::Mean).expect("observes"));
    });
    group.finish();
}

criterion_group!(benches, calls, scores);
criterion_main!(benches);
