//! What the answers to earlier questions about the same trajectory are worth for the next briefing.
//!
//! `cargo run --release --features full --example earlier -- --data FILE.jsonl --worker MODEL`
//!
//! Lines whose id has the same text before `#` are questions about one trajectory, that of the first of them. They are asked one after
//! the other in one session, each over the full cache; what it writes there is the target of every handoff, which is made by a
//! snapshot that knows the answers before it and not this one.

use std::path::PathBuf;

use clap::Parser;
use latent_briefing::eval::logs;
use latent_briefing::model::Worker;
use latent_briefing::prelude::{Handoff, OpenSession};
use latent_briefing::session::Forced;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Arguments {
    /// Recorded logs.
    #[arg(long)]
    data: PathBuf,
    /// A checkpoint's folder or file.
    #[arg(long)]
    worker: String,
    /// Handoffs, with semicolons.
    #[arg(
        long,
        value_delimiter = ';',
        default_value = "latent-briefing:keep=0.1,echo=0;latent-briefing:keep=0.1,earlier=64;latent-briefing:keep=0.1"
    )]
    handoff: Vec<String>,
    /// Tokens of a target at most.
    #[arg(long, default_value_t = 96)]
    target_tokens: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let worker = Worker::load(&arguments.worker)?;
    let items = logs::load(&arguments.data, &logs::LoadOptions::default())?.items;
    let handoffs = arguments
        .handoff
        .iter()
        .map(|text| text.parse())
        .collect::<std::result::Result<Vec<Handoff>, _>>()?;
    let mut sums = vec![0.0; handoffs.len()];
    let (mut full, mut none, mut counted) = (0.0, 0.0, 0);
    for questions in items.chunk_by(|a, b| a.document == b.document) {
        let mut session = worker.session()?;
        session.extend_all(questions[0].trajectory.clone(), &mut |_, _| {})?;
        for (number, item) in questions.iter().enumerate() {
            let snapshot = session.snapshot();
            let answer = session
                .ask(item.task.as_str())
                .via(Handoff::FullKv)
                .at_most(arguments.target_tokens)
                .run()?;
            let target = worker.tokenizer().encode_text(&answer.answer.text)?;
            // The first question of a session has nothing before it.
            if number == 0 || target.is_empty() {
                continue;
            }
            let nll = |handoff: &Handoff| -> Result<f64> {
                nll(&snapshot.ask(item.task.as_str()).via(handoff.clone()).forced(&target)?, &target)
            };
            full += nll(&Handoff::FullKv)?;
            none += nll(&Handoff::None)?;
            counted += 1;
            for (sum, handoff) in sums.iter_mut().zip(&handoffs) {
                *sum += nll(handoff)?;
            }
        }
        println!("{counted} questions, {} positions in the last trajectory", session.seq_len());
        for (handoff, sum) in arguments.handoff.iter().zip(&sums) {
            println!("    {handoff}: {:.3}", 1.0 - (sum - full) / (none - full));
        }
    }
    Ok(())
}

/// Mean negative log-likelihood of the target, in nats a token.
fn nll(forced: &Forced, target: &[u32]) -> Result<f64> {
    let rows = forced.logits.to_vec2::<f32>()?;
    let of_token = |(row, token): (&Vec<f32>, &u32)| {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|x| f64::from((x - max).exp())).sum();
        sum.ln() + f64::from(max - row[*token as usize])
    };
    Ok(rows.iter().zip(target).map(of_token).sum::<f64>() / target.len() as f64)
}
