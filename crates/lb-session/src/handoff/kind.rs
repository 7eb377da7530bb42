//! The ways a trajectory can reach a worker, by name.

use serde::{Deserialize, Serialize};

/// A [`Handoff`](crate::Handoff) without what there is to say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum HandoffKind {
    /// [`Handoff::None`](crate::Handoff::None).
    None,
    /// [`Handoff::FullKv`](crate::Handoff::FullKv).
    FullKv,
    /// [`Handoff::PackedKv`](crate::Handoff::PackedKv).
    PackedKv,
    /// [`Handoff::TextReplay`](crate::Handoff::TextReplay).
    TextReplay,
    /// [`Handoff::Notes`](crate::Handoff::Notes).
    Notes,
    /// [`Handoff::Summary`](crate::Handoff::Summary).
    Summary,
    /// [`Handoff::Bm25`](crate::Handoff::Bm25).
    Bm25,
    /// [`Handoff::SelectiveContext`](crate::Handoff::SelectiveContext).
    SelectiveContext,
    /// [`Handoff::LlmLingua`](crate::Handoff::LlmLingua).
    #[serde(rename = "llmlingua")]
    LlmLingua,
    /// [`Handoff::LongLlmLingua`](crate::Handoff::LongLlmLingua).
    #[serde(rename = "longllmlingua")]
    LongLlmLingua,
    /// [`Handoff::Sentences`](crate::Handoff::Sentences).
    Sentences,
    /// [`Handoff::Squeeze`](crate::Handoff::Squeeze).
    Squeeze,
    /// [`Handoff::Recent`](crate::Handoff::Recent).
    Recent,
    /// [`Handoff::Random`](crate::Handoff::Random).
    Random,
    /// [`Handoff::LatentBriefing`](crate::Handoff::LatentBriefing), and what is answered over a briefing of one's own.
    LatentBriefing,
    /// [`Handoff::RenewedBriefing`](crate::Handoff::RenewedBriefing).
    RenewedBriefing,
}

impl HandoffKind {
    /// Every kind.
    pub const ALL: [HandoffKind; 16] = [
        HandoffKind::None,
        HandoffKind::FullKv,
        HandoffKind::PackedKv,
        HandoffKind::TextReplay,
        HandoffKind::Notes,
        HandoffKind::Summary,
        HandoffKind::Bm25,
        HandoffKind::SelectiveContext,
        HandoffKind::LlmLingua,
        HandoffKind::LongLlmLingua,
        HandoffKind::Sentences,
        HandoffKind::Squeeze,
        HandoffKind::Recent,
        HandoffKind::Random,
        HandoffKind::LatentBriefing,
        HandoffKind::RenewedBriefing,
    ];

    /// Whether the worker reads a compacted cache.
    pub fn is_briefing(self) -> bool {
        matches!(self, Self::LatentBriefing | Self::RenewedBriefing)
    }

    /// The name used in reports and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FullKv => "full-kv",
            Self::PackedKv => "packed-kv",
            Self::TextReplay => "text-replay",
            Self::Notes => "notes",
            Self::Summary => "summary",
            Self::Bm25 => "bm25",
            Self::SelectiveContext => "selective-context",
            Self::LlmLingua => "llmlingua",
            Self::LongLlmLingua => "longllmlingua",
            Self::Sentences => "sentences",
            Self::Squeeze => "squeeze",
            Self::Recent => "recent",
            Self::Random => "random",
            Self::LatentBriefing => "latent-briefing",
            Self::RenewedBriefing => "renewed-briefing",
        }
    }
}
