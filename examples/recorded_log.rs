//! The log of another program as a trajectory: what one task gets to know of it through three handoffs, and what each costs.
//!
//! `cargo run --release --example recorded_log -- chat.json "What was decided?" path/to/worker.gguf`; without arguments, a
//! small chat and the built-in worker.

use latent_briefing::prelude::*;

const CHAT: &str = r#"[
    {"role": "user", "content": "Find out who keeps what in Redmoor."},
    {"role": "assistant", "content": "The Velmar ledger is kept by Anara."},
    {"role": "assistant", "content": "The Torwick vault is kept by Selio."}
]"#;

fn main() -> latent_briefing::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let log = match arguments.next() {
        Some(file) => Trajectory::read(file)?,
        None => Trajectory::from_messages(&serde_json::from_str(CHAT).expect("the chat above is JSON"))?,
    };
    for note in &log.notes {
        eprintln!("{note}");
    }
    let task = arguments.next().unwrap_or_else(|| "Who keeps the Velmar ledger?".to_owned());
    let worker = arguments.next().map_or_else(Worker::embedded, Worker::load)?;

    let mut session = worker.session()?;
    session.extend_all(log, &mut |_, _| {})?;
    for handoff in ["full-kv", "text-replay", "latent-briefing:keep=0.5"] {
        let outcome = session.ask(task.as_str()).via(handoff.parse::<Handoff>()?).run()?;
        let tokens = outcome.answer.tokens;
        println!(
            "{handoff:24} {} ({} worker tokens, {} read)",
            outcome.answer,
            tokens.worker_tokens(),
            tokens.prefilled
        );
    }
    Ok(())
}
