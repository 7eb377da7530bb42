//! The shortest of several messages.

use lb_session::{Handoff, Prepared, SqueezeConfig, Squeezed, WorkerSession};
use lb_testkit::embedded;

use super::{TASK, head_len, lines, session_of};

fn squeezed(session: &mut WorkerSession, config: SqueezeConfig) -> (Prepared, Squeezed) {
    let prepared = session.ask(TASK).via(Handoff::Squeeze(config)).prepare().unwrap();
    let found = prepared.squeezed.unwrap();
    (prepared, found)
}

const SHORT: SqueezeConfig = SqueezeConfig { k: 6, kl: 1e9, tokens: 24, draft: 8, temperature: 1.5, seed: 3 };

/// ln p of every token, in f64.
fn ln_p(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    logits.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
}

/// KL(full ‖ message) along what the full cache writes, by single steps.
fn divergence(session: &WorkerSession, message: &[u32], most: usize) -> f64 {
    let (model, task) = (embedded().model(), session.task_tokens(TASK).unwrap());
    let mut full = session.cache().fork();
    let mut other = model.new_cache();
    let mut a = model.forward(&task, &mut full).unwrap();
    let mut b = model.forward(&[message, &task].concat(), &mut other).unwrap();
    let (mut sum, mut rows) = (0.0, 0);
    loop {
        let (p, q) = (ln_p(&a.to_vec1::<f32>().unwrap()), ln_p(&b.to_vec1::<f32>().unwrap()));
        sum += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        rows += 1;
        let best = (0..p.len()).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap() as u32;
        let ends = embedded().tokenizer().eos_ids().contains(&best);
        if ends || rows == most {
            return sum / f64::from(u32::try_from(rows).unwrap());
        }
        a = model.forward(&[best], &mut full).unwrap();
        b = model.forward(&[best], &mut other).unwrap();
    }
}

#[test]
fn the_divergence_is_that_along_the_full_caches_answer() {
    let mut session = session_of(lines());
    for draft in [1, 3, 64] {
        let (prepared, found) = squeezed(&mut session, SqueezeConfig { draft, k: 1, ..SHORT });
        let expected = divergence(&session, &prepared.prompt[..prepared.kept_len], draft);
        assert!(
            (found.kl - expected).abs() < 0.02 + 0.02 * expected,
            "{found:?}, {expected} by single steps"
        );
        assert!((found.messages, found.read, found.within) == (1, 1, true), "{found:?}");
    }
}

/// So hot that messages differ: the built-in worker is sure of what it says.
const WILD: SqueezeConfig = SqueezeConfig { temperature: 4.0, ..SHORT };

#[test]
fn a_loose_bound_takes_the_shortest_and_none_the_nearest() {
    let mut session = session_of(lines());
    let (loose, first) = squeezed(&mut session, WILD);
    assert!(first.within && first.read == 1 && first.messages > 1, "{first:?}");
    // Each message alone: the seed of the second is the next one.
    let alone: Vec<(Prepared, Squeezed)> = (0..6)
        .map(|number| squeezed(&mut session, SqueezeConfig { k: 1, seed: 3 + number, ..WILD }))
        .collect();
    let shortest = alone.iter().map(|(prepared, _)| prepared.kept_len).min().unwrap();
    assert_eq!(loose.kept_len, shortest);
    let (nearest, found) = squeezed(&mut session, SqueezeConfig { kl: 0.0, ..WILD });
    let least = alone.iter().map(|(_, found)| found.kl).fold(f64::MAX, f64::min);
    assert!(!found.within && found.read == found.messages, "{found:?}");
    assert!((found.kl - least).abs() < 0.02, "{found:?}, {least}");
    // A bound that this one just holds, and shorter ones do not, finds it.
    let bound = found.kl + 1e-3;
    let (again, found) = squeezed(&mut session, SqueezeConfig { kl: bound, ..WILD });
    assert!(found.within && again.kept_len <= nearest.kept_len, "{found:?}");
}

#[test]
fn the_same_seed_is_the_same_message_and_all_of_it_is_counted() {
    let (mut session, mut other) = (session_of(lines()), session_of(lines()));
    let config = SqueezeConfig { kl: 0.0, ..SHORT };
    let (one, two) = (squeezed(&mut session, config), squeezed(&mut other, config));
    assert_eq!((&one.0.prompt, one.1), (&two.0.prompt, two.1));
    let (tokens, task) = (one.0.tokens, session.task_tokens(TASK).unwrap().len());
    // Six messages and an answer were written; the task was read over the full cache, behind each message, and behind the one handed over.
    assert!(tokens.drafted > 6 && tokens.drafted <= 6 * 24 + 8, "{tokens:?}");
    assert!(tokens.prefilled > (one.1.read + 2) * task + one.0.kept_len, "{tokens:?}");
    assert_eq!(tokens.attended, one.0.kept_len + task);
    let outcome = session.ask(TASK).via(Handoff::Squeeze(config)).run().unwrap();
    assert_eq!((outcome.squeezed, outcome.kept_len), (Some(one.1), one.0.kept_len));
    let forced = session.ask(TASK).via(Handoff::Squeeze(config)).forced(&[1, 2]).unwrap();
    assert_eq!(forced.squeezed, Some(one.1));
    let plain = session.ask(TASK).via(Handoff::TextReplay).run().unwrap();
    assert_eq!(plain.squeezed, None);
    assert!(session_of([]).ask(TASK).via(Handoff::Squeeze(config)).prepare().is_err());
    assert!(head_len() > 0);
}
