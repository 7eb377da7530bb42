//! Handoffs from a short text.

use std::str::FromStr;

use super::{Handoff, HandoffKind, PASSAGE, SelectionSize, SummaryConfig, SummaryScope};
use crate::{Error, Result, Storage};

pub(super) const TENTH: SelectionSize = SelectionSize::KeepRatio(0.1);

impl FromStr for Handoff {
    type Err = Error;

    /// Parses `NAME` or `NAME:ARGUMENT,ARGUMENT`; the table is in the documentation of [`Handoff`].
    fn from_str(text: &str) -> Result<Self> {
        let (name, arguments) = match text.split_once(':') {
            Some((name, arguments)) => (name.trim(), Some(arguments)),
            None => (text.trim(), None),
        };
        let kind = HandoffKind::from_str(name)?;
        let mut arguments = Arguments::read(arguments)?;
        let handoff = match kind {
            HandoffKind::None => Self::None,
            HandoffKind::FullKv => match arguments.storage()? {
                Storage::Full => Self::FullKv,
                storage => Self::PackedKv(storage),
            },
            HandoffKind::PackedKv => Self::PackedKv(match arguments.take("bits") {
                Some(bits) => Storage::of_bits(bits)?,
                None => Storage::Bits8,
            }),
            HandoffKind::TextReplay => Self::TextReplay,
            HandoffKind::Notes => Self::Notes,
            HandoffKind::Summary => Self::Summary(arguments.summary()?),
            HandoffKind::Bm25 => {
                let passage = arguments.number("passage")?.map_or(PASSAGE, |number| number as usize);
                Self::Bm25 { size: arguments.size(TENTH)?, passage }
            }
            HandoffKind::SelectiveContext
            | HandoffKind::LlmLingua
            | HandoffKind::LongLlmLingua
            | HandoffKind::Sentences
            | HandoffKind::Squeeze => arguments.message(kind)?,
            HandoffKind::Recent => Self::Recent(arguments.size(TENTH)?),
            HandoffKind::Random => {
                let seed = arguments.number("seed")?.unwrap_or(0);
                Self::Random { size: arguments.size(TENTH)?, seed }
            }
            HandoffKind::LatentBriefing | HandoffKind::RenewedBriefing => arguments.briefing_handoff(kind)?,
        };
        arguments.finish()?;
        handoff.validate()?;
        Ok(handoff)
    }
}

impl FromStr for HandoffKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let reason = "want none, full-kv, packed-kv, text-replay, notes, summary, bm25, selective-context, llmlingua, longllmlingua, sentences, squeeze, recent, random, latent-briefing or renewed-briefing";
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| Error::config("handoff", format!("{name:?}"), reason))
    }
}

/// What stands behind the name; each is taken once.
pub(super) struct Arguments<'a> {
    /// Without a name.
    plain: Option<&'a str>,
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Arguments<'a> {
    fn read(text: Option<&'a str>) -> Result<Self> {
        let mut arguments = Self { plain: None, named: Vec::new() };
        for part in text.into_iter().flat_map(|text| text.split(',')).map(str::trim) {
            match part.split_once('=') {
                Some((name, value)) if !arguments.named.iter().any(|(other, _)| *other == name.trim()) => {
                    arguments.named.push((name.trim(), value.trim()));
                }
                None if arguments.plain.is_none() && !part.is_empty() => arguments.plain = Some(part),
                _ => return Err(Error::config("handoff", format!("{part:?}"), "want each argument once")),
            }
        }
        Ok(arguments)
    }

    fn finish(self) -> Result<()> {
        let left = self.plain.or(self.named.first().map(|(name, _)| *name));
        match left {
            Some(left) => {
                Err(Error::config("handoff", format!("{left:?}"), "this handoff takes no such argument"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.named.iter().position(|(other, _)| *other == name)?;
        Some(self.named.remove(at).1)
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<u64>> {
        let whole = |text: &str| {
            text.parse().map_err(|_| Error::config(name, format!("{text:?}"), "want a whole number"))
        };
        self.take(name).map(whole).transpose()
    }

    pub(super) fn real(&mut self, name: &'static str) -> Result<Option<f64>> {
        let real =
            |text: &str| text.parse().map_err(|_| Error::config(name, format!("{text:?}"), "want a number"));
        self.take(name).map(real).transpose()
    }

    /// What `bits=` says.
    pub(super) fn storage(&mut self) -> Result<Storage> {
        self.take("bits").map_or(Ok(Storage::Full), Storage::of_bits)
    }

    pub(super) fn size(&mut self, default: SelectionSize) -> Result<SelectionSize> {
        let text = self.plain.take().or_else(|| self.take("keep"));
        text.map_or(Ok(default), size)
    }

    fn summary(&mut self) -> Result<SummaryConfig> {
        let mut config = SummaryConfig::default();
        if let Some(text) = self.plain.take() {
            let reason = "want a whole number of tokens";
            config.max_tokens =
                text.parse().map_err(|_| Error::config("summary", format!("{text:?}"), reason))?;
        }
        config.scope = match self.take("scope") {
            None | Some("trajectory") => SummaryScope::Trajectory,
            Some("task") => SummaryScope::Task,
            Some(other) => {
                return Err(Error::config("scope", format!("{other:?}"), "want trajectory or task"));
            }
        };
        Ok(config)
    }
}

pub(super) fn size(text: &str) -> Result<SelectionSize> {
    let reason = "want a ratio such as 0.1, or a number of positions such as 64t";
    let wrong = || Error::config("size", format!("{text:?}"), reason);
    match text.strip_suffix('t') {
        Some(count) => Ok(SelectionSize::KeptLen(count.parse().map_err(|_| wrong())?)),
        None => Ok(SelectionSize::KeepRatio(text.parse().map_err(|_| wrong())?)),
    }
}

#[cfg(test)]
mod tests {
    use lb_am::Budget;

    use super::Handoff;

    #[test]
    fn the_default_briefing_is_that_of_the_configuration() {
        let Handoff::LatentBriefing(config) = "latent-briefing".parse().unwrap() else {
            panic!("a briefing")
        };
        assert_eq!(*config, crate::BriefConfig::default());
        assert!(matches!(config.compaction.budget, Budget::Mad { .. }));
    }
}
