//! Guessed beginnings of answers: what is written does not depend on them.

use latent_briefing::model::{Error, GenerateOptions, KvCache, Lookup};

use crate::support::checkpoints::{TIED, prompt, worker};
use crate::support::compare::{F32, assert_close, flat};

const MOST: usize = 12;

fn options() -> [GenerateOptions; 3] {
    let warm = GenerateOptions { temperature: Some(0.9), seed: 5, ..GenerateOptions::greedy(MOST) };
    [GenerateOptions::greedy(MOST), warm, GenerateOptions::greedy(1)]
}

/// Right to the end, right at first, wrong, longer than the answer may be, and none.
fn guesses(right: &[u32], vocab: u32) -> Vec<Vec<u32>> {
    let half = right.len() / 2;
    let mut wrong = right.to_vec();
    if let Some(token) = wrong.get_mut(half) {
        *token = (*token + 1) % vocab;
    }
    let long = right.iter().copied().cycle().take(3 * MOST).collect();
    vec![
        right.to_vec(),
        right[..half].to_vec(),
        wrong,
        long,
        vec![right[0].wrapping_add(1) % vocab; 4],
        Vec::new(),
    ]
}

#[test]
fn whatever_is_guessed_the_same_is_written() {
    let worker = worker(TIED);
    let tokens = prompt(TIED);
    for options in options() {
        let mut plain = worker.model().new_cache();
        let logits = worker.model().forward(&tokens[..40], &mut plain).unwrap();
        let full = plain.fork();
        let right = worker.generate_from_logits(&mut plain, &logits, &options, &mut |_, _| true).unwrap();
        let guesses = guesses(&right.tokens, worker.config().vocab_size as u32);
        let mut caches: Vec<KvCache> = guesses.iter().map(|_| full.fork()).collect();
        let mut heard = vec![Vec::new(); guesses.len()];
        let mut hear = |index: usize, token: u32, _: &str| {
            heard[index].push(token);
            true
        };
        let mut read = vec![0; guesses.len()];
        let group = worker.config().group_size();
        let mut on_read = |index: usize, queries: Vec<candle_core::Tensor>, _: &mut KvCache| {
            assert_eq!(queries.len(), worker.config().num_hidden_layers);
            read[index] += queries[0].dim(1).unwrap() / group;
            Ok(())
        };
        let count = guesses.len();
        // Right or wrong, as far as anything is guessed: at the beginning and again and again.
        let mut asked = vec![0; count];
        let mut guess = |index: usize, written: &[u32], most: usize| {
            asked[index] += 1;
            assert_eq!(written, &right.tokens[..written.len()]);
            assert_eq!(most, options.max_new_tokens - written.len() - 1);
            let from = written.len().min(guesses[index].len());
            guesses[index][from..].to_vec()
        };
        let made = worker.generate_batch_guessed(
            &mut caches,
            &vec![logits.clone(); count],
            &vec![options.clone(); count],
            &mut hear,
            &mut guess,
            Some(&mut on_read),
        );
        for (index, made) in made.unwrap().into_iter().enumerate() {
            assert_eq!((&made.tokens, made.stopped), (&right.tokens, right.stopped), "guess {index}");
            assert_eq!(heard[index], right.tokens);
            assert_eq!(caches[index].logical_len(), plain.logical_len());
            // Whatever was read was heard of, guessed or not, but for what the answer's end was told by.
            let written = plain.logical_len() - full.logical_len();
            assert!(read[index] <= written.saturating_sub(1), "{index}: {} of {written}", read[index]);
            if guesses[index].is_empty() {
                assert_eq!(read[index], written.saturating_sub(1));
            }
            let [next, wanted] = [&mut caches[index].fork(), &mut plain.fork()]
                .map(|cache| flat(&worker.model().forward(&tokens[..2], cache).unwrap()));
            assert_close(&next, &wanted, F32);
        }
    }
}

#[test]
fn guesses_are_checked() {
    let worker = worker(TIED);
    let mut cache = worker.model().new_cache();
    let logits = worker.model().forward(&prompt(TIED)[..8], &mut cache).unwrap();
    let mut caches = [cache.fork()];
    let made = worker.generate_batch_guessed(
        &mut caches,
        &[logits],
        &[GenerateOptions::greedy(8)],
        &mut |_, _, _| true,
        &mut |_, _, _| vec![u32::MAX],
        None,
    );
    let error = made.unwrap_err();
    assert!(
        matches!(&error, Error::Sequence { index: 0, source } if matches!(**source, Error::TokenRange { .. })),
        "{error}"
    );
}

/// A text that is copied from saves passes and changes nothing.
#[test]
fn a_text_guesses_what_is_copied_from_it() {
    let worker = worker(TIED);
    let tokens = prompt(TIED);
    let mut cache = worker.model().new_cache();
    let logits = worker.model().forward(&tokens[..40], &mut cache).unwrap();
    let full = cache.fork();
    let options = GenerateOptions::greedy(40);
    let right = worker.generate_from_logits(&mut cache, &logits, &options, &mut |_, _| true).unwrap();
    // What will be written, with something else before it and in its middle.
    let mut text = vec![1, 2, 3];
    text.extend(&right.tokens[..20]);
    text.push((right.tokens[20] + 1) % worker.config().vocab_size as u32);
    text.extend(&right.tokens[20..]);
    let mut lookup = Lookup::new(vec![&text], Vec::new());
    let mut passes = 0;
    let mut caches = [full];
    let made = worker.generate_batch_guessed(
        &mut caches,
        &[logits],
        &[options],
        &mut |_, _, _| true,
        &mut |_, written, most| {
            passes += 1;
            lookup.guess(written, most)
        },
        None,
    );
    assert_eq!(made.unwrap()[0].tokens, right.tokens);
    assert!(passes < right.tokens.len() / 2, "{passes} passes for {} tokens", right.tokens.len());
    assert_eq!(caches[0].logical_len(), cache.logical_len());
}
