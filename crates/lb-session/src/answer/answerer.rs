//! Calls answered together.

use lb_model::GenerateOptions;

use super::call::{self, Call, Through};
use super::{Answer, Outcome};
use crate::context::Reader;
use crate::generate::{Generated, Hear, Input, generate};
use crate::handoff::Memo;
use crate::ledger::{CallRecord, CallTimes, CallTokens, shares};
use crate::{Choices, Error, Result, Task};

/// What is asked, and how it is answered.
pub(super) struct Answerer<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) memo: &'a Memo,
    pub(super) tasks: &'a [Task],
    pub(super) through: &'a Through<'a>,
    pub(super) max_new_tokens: Option<usize>,
    pub(super) generate: Option<&'a GenerateOptions>,
    pub(super) choices: Option<&'a Choices>,
}

impl<'a> Answerer<'a> {
    /// What can be told before anything is computed.
    pub(super) fn check(&self) -> Result<()> {
        if self.max_new_tokens == Some(0) {
            return Err(Error::config("max_new_tokens", 0, "want at least 1"));
        }
        if let Some(options) = self.generate {
            options.validate()?;
        }
        match self.through {
            Through::Handoff(handoff) => handoff.validate()?,
            Through::Briefings(briefings) if briefings.len() != self.tasks.len() => {
                return Err(Error::config("briefings", briefings.len(), "want one for each task"));
            }
            Through::Briefings(_) => {}
        }
        self.reader.guard.check()
    }

    /// The numbers of the tasks that are answered together, group by group.
    pub(super) fn groups(&self) -> impl Iterator<Item = Vec<usize>> + use<> {
        let (count, size) = (self.tasks.len(), self.reader.context.settings.max_batch);
        (0..count).step_by(size).map(move |from| (from..from.saturating_add(size).min(count)).collect())
    }

    /// Answers the tasks of these numbers together. To who listens they have these numbers; in errors they are counted
    /// from 0.
    pub(super) fn group(&self, numbers: &[usize], hear: Hear<'_>) -> Result<Vec<Outcome>> {
        let calls = self.check().and_then(|()| self.calls(numbers));
        let answered = calls.and_then(|calls| self.answer(calls, numbers, hear));
        answered.map_err(|error| self.reader.guard.explain(error))
    }

    /// Answers the tasks of these numbers together; one at fault is reported and left out of the next try.
    pub(super) fn each(
        &self,
        mut numbers: Vec<usize>,
        hear: Hear<'_>,
        done: &mut dyn FnMut(usize, Result<Outcome>),
    ) {
        while let Some(&first) = numbers.first() {
            match self.group(&numbers, hear) {
                Ok(outcomes) => {
                    numbers.into_iter().zip(outcomes).for_each(|(number, outcome)| done(number, Ok(outcome)));
                    return;
                }
                Err(Error::Call { index, source }) if index < numbers.len() => {
                    done(numbers.remove(index), Err(*source));
                }
                Err(error) if numbers.len() == 1 => {
                    done(first, Err(error));
                    return;
                }
                // What ended all of them is told to each; what nobody can be blamed for is tried one by one.
                Err(_) => {
                    for number in numbers {
                        self.each(vec![number], hear, done);
                    }
                    return;
                }
            }
        }
    }

    /// What there is to do for the tasks of these numbers.
    pub(super) fn calls(&self, numbers: &[usize]) -> Result<Vec<Call<'a>>> {
        match self.through {
            Through::Handoff(handoff) => {
                let tasks: Vec<&Task> = numbers.iter().map(|number| &self.tasks[*number]).collect();
                call::through(self.reader, self.memo, handoff, &tasks)
            }
            Through::Briefings(briefings) => {
                let call = |(index, number): (usize, &usize)| {
                    let call = Call::over(self.reader, briefings[*number], &self.tasks[*number]);
                    call.map_err(|error| error.in_call(index))
                };
                numbers.iter().enumerate().map(call).collect()
            }
        }
    }

    fn answer(&self, calls: Vec<Call<'a>>, numbers: &[usize], hear: Hear<'_>) -> Result<Vec<Outcome>> {
        let mut options = self.generate.unwrap_or(&self.reader.context.settings.generate).clone();
        options.max_new_tokens = self.max_new_tokens.unwrap_or(options.max_new_tokens);
        let (mut caches, mut inputs, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let (mut renewing, mut guesses) = (Vec::new(), Vec::new());
        for Call { cache, input, cost, origin, briefing, guess, renewing: own } in calls {
            renewing.push(own);
            guesses.push(guess);
            caches.push(cache);
            inputs.push(input);
            rest.push((cost, origin, briefing));
        }
        let mut hear = |index: usize, text: &str| hear(numbers[index], text);
        let Generated { generations, bytes, chances, prefill, decode } = generate(
            self.reader,
            &mut caches,
            &inputs,
            (&guesses, &mut renewing),
            &options,
            self.choices,
            &mut hear,
        )?;
        let read = shares(prefill, inputs.iter().map(Input::unread));
        // The token that ends an answer is a pass as well.
        let written = shares(decode, generations.iter().map(|made| made.tokens.len() + 1));
        let mut outcomes = Vec::with_capacity(rest.len());
        let renewals = renewing.into_iter().map(|own| own.map_or_else(Vec::new, |own| own.renewals));
        let each = generations.into_iter().zip(chances).zip(rest).zip(renewals).enumerate();
        for (index, (((made, chances), (cost, origin, briefing)), renewals)) in each {
            let tokens = CallTokens { generated: made.tokens.len(), ..cost };
            let times = CallTimes { prefill: read[index], brief: origin.brief, decode: written[index] };
            let record = CallRecord {
                handoff: origin.handoff,
                tokens,
                times,
                cache_bytes: bytes[index],
                seq_len: origin.seq_len,
                kept_len: origin.kept_len,
            };
            let (text, stopped) = (made.text.trim().to_owned(), made.stopped);
            let answer = Answer { text, stopped, tokens, chances, elapsed: prefill + made.decode };
            let (kept_len, keep_ratio, brief) = (origin.kept_len, origin.keep_ratio, origin.brief);
            let squeezed = origin.squeezed;
            outcomes.push(Outcome {
                answer,
                kept_len,
                keep_ratio,
                brief,
                briefing,
                renewals,
                squeezed,
                record,
            });
        }
        Ok(outcomes)
    }
}
