//! Handoffs of compressed messages from a short text.

use super::parse::{Arguments, TENTH};
use super::{
    Handoff, HandoffKind, LlmLingua, LongLlmLingua, PassageOrder, SelectiveContext, SentenceScore,
    SqueezeConfig, TextUnit,
};
use crate::{Error, Result};

impl Arguments<'_> {
    pub(super) fn message(&mut self, kind: HandoffKind) -> Result<Handoff> {
        Ok(match kind {
            HandoffKind::SelectiveContext => {
                let default = SelectiveContext::default();
                Handoff::SelectiveContext(SelectiveContext {
                    unit: self.one_of("unit", &UNITS, "want phrase, sentence or token")?.unwrap_or_default(),
                    size: self.size(default.size)?,
                })
            }
            HandoffKind::LlmLingua => Handoff::LlmLingua(self.lingua(LlmLingua::default())?),
            HandoffKind::LongLlmLingua => {
                let LongLlmLingua { size, stretch, coarse, passage, spread, .. } = LongLlmLingua::default();
                let spread = self.real("spread")?.unwrap_or(spread);
                let order = self.one_of("order", &ORDERS, "want text or relevance")?.unwrap_or_default();
                let both = self.lingua(LlmLingua { size, stretch, coarse, passage })?;
                let LlmLingua { size, stretch, coarse, passage } = both;
                Handoff::LongLlmLingua(LongLlmLingua { size, stretch, coarse, passage, order, spread })
            }
            HandoffKind::Squeeze => Handoff::Squeeze(self.squeeze()?),
            _ => Handoff::Sentences {
                by: self.one_of("by", &SCORES, "want bm25 or attention")?.unwrap_or_default(),
                size: self.size(TENTH)?,
            },
        })
    }

    fn lingua(&mut self, default: LlmLingua) -> Result<LlmLingua> {
        Ok(LlmLingua {
            stretch: self.count("stretch", default.stretch)?,
            coarse: self.real("coarse")?.unwrap_or(default.coarse),
            passage: self.count("passage", default.passage)?,
            size: self.size(default.size)?,
        })
    }

    fn squeeze(&mut self) -> Result<SqueezeConfig> {
        let default = SqueezeConfig::default();
        Ok(SqueezeConfig {
            k: self.count("k", default.k)?,
            kl: self.real("kl")?.unwrap_or(default.kl),
            tokens: self.count("tokens", default.tokens)?,
            draft: self.count("draft", default.draft)?,
            temperature: self.real("temperature")?.unwrap_or(default.temperature),
            seed: self.number("seed")?.unwrap_or(default.seed),
        })
    }

    fn count(&mut self, name: &'static str, default: usize) -> Result<usize> {
        let Some(number) = self.number(name)? else { return Ok(default) };
        usize::try_from(number).map_err(|_| Error::config(name, number, "is more than there can be"))
    }
}

const UNITS: [(&str, TextUnit); 3] =
    [("phrase", TextUnit::Phrase), ("sentence", TextUnit::Sentence), ("token", TextUnit::Token)];

const ORDERS: [(&str, PassageOrder); 2] =
    [("text", PassageOrder::Text), ("relevance", PassageOrder::Relevance)];

const SCORES: [(&str, SentenceScore); 2] =
    [("bm25", SentenceScore::Bm25), ("attention", SentenceScore::Attention)];
