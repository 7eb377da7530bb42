//! Several tasks over one trajectory of the built-in worker, one by one and in a batch: over the full cache, and over a
//! briefing each, briefings included. `cargo bench -p lb-perf --bench batch`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use latent_briefing::prelude::*;
use lb_eval::episodes::{Episode, EpisodeConfig};

/// Length of the log in words; about 1,500 tokens.
const WORDS: usize = 760;

fn calls(c: &mut Criterion) {
    let worker = Worker::embedded().expect("the built-in worker loads");
    let episode = Episode::generate(1, &EpisodeConfig::held_out((WORDS, WORDS), 16)).expect("in range");
    let questions: Vec<&str> = episode.questions.iter().map(|question| question.text.as_str()).collect();
    let mut session = worker.session().expect("the template fits");
    session.extend_all(episode.lines.iter().map(Segment::from), &mut |_, _| {}).expect("the log fits");
    println!("{} tokens, {} questions", session.seq_len(), questions.len());
    for handoff in [Handoff::FullKv, Handoff::briefing(Compaction::keep_ratio(0.1))] {
        let mut group = c.benchmark_group(handoff.name());
        group.sample_size(10);
        for count in [1, 4, 16] {
            let tasks = &questions[..count];
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new("one-by-one", count), |b| {
                b.iter(|| {
                    for task in tasks {
                        session.ask(*task).via(&handoff).run().expect("answers");
                    }
                });
            });
            group.bench_function(BenchmarkId::new("batched", count), |b| {
                b.iter(|| session.ask_all(tasks.iter().copied()).via(&handoff).run().expect("answers"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
