//! The ways a trajectory can reach a worker, behind one call.

mod bm25;
mod coarse;
mod hand_over;
mod information;
mod kind;
mod last;
mod likelihood;
mod lines;
mod lingua;
mod only;
mod parse;
mod parse_briefing;
mod parse_message;
mod prune;
mod selective;
mod sentences;
mod size;
mod squeeze;
mod stand_in;
mod summary;
mod words;

use std::sync::Arc;

use lb_am::{Compaction, PackedBits};
use lb_model::KvCache;
use serde::{Deserialize, Serialize};

use crate::{BriefConfig, Error, Renewal, Result, Storage};

use bm25::Passages;
pub use bm25::relevance;
pub(crate) use hand_over::hand_over;
use information::Information;
pub use kind::HandoffKind;
pub(crate) use last::Last;
pub use lingua::{LlmLingua, LongLlmLingua, PassageOrder};
pub use selective::{SelectiveContext, TextUnit};
pub use sentences::SentenceScore;
pub use size::SelectionSize;
pub use squeeze::{SqueezeConfig, Squeezed};
pub(crate) use stand_in::StandIn;
pub use summary::{SummaryConfig, SummaryScope};

/// How the worker gets to know the trajectory.
///
/// As JSON or TOML a handoff is its [`name`](Self::name), or a table of that name with what there is to say:
/// `"full-kv"`, `{"recent": {"keep_ratio": 0.1}}`, `{"latent-briefing": {"task_state": "reuse"}}`. From a short text, for
/// instance of a command line, it is parsed as `NAME` or `NAME:ARGUMENT,ARGUMENT`:
///
/// | text | arguments |
/// |---|---|
/// | `none`, `full-kv`, `text-replay`, `notes` | none |
/// | `packed-kv:bits=8`, `full-kv:bits=8` | `bits=8`, `4` or `2` of each number (8); `full-kv:bits=16` is `full-kv` |
/// | `summary`, `summary:200`, `summary:200,scope=task` | tokens of the summary (256), `scope=trajectory` or `task` (`trajectory`) |
/// | `bm25:0.1`, `bm25:64t,passage=40` | size (0.1), `passage=` tokens of a passage (128) |
/// | `selective-context:0.5`, `selective-context:0.5,unit=sentence` | size (0.5), `unit=phrase`, `sentence` or `token` (`phrase`) |
/// | `llmlingua:0.5` | size (0.5), `stretch=` tokens judged together (100), `coarse=` times the size that passages are kept for first (2), `passage=` tokens of a passage (128) |
/// | `longllmlingua:0.25`, `longllmlingua:0.25,order=relevance` | size (0.25), those of `llmlingua`, `order=text` or `relevance` (`text`), `spread=` of the ratios of passages about their mean (0.3) |
/// | `sentences:0.1`, `sentences:0.1,by=attention` | size (0.1), `by=bm25` or `attention` (`bm25`) |
/// | `squeeze`, `squeeze:k=8,kl=0.2,seed=1` | `k=` messages (4), `kl=` nats a token (0.3), `tokens=` of a message (128), `draft=` tokens of an answer (16), `temperature=` (0.8), seed (0) |
/// | `recent:0.1`, `recent:64t` | size (0.1) |
/// | `random:0.1,seed=3` | size (0.1), seed (0) |
/// | `latent-briefing`, `latent-briefing:tau=4`, `latent-briefing:keep=0.1,state=reuse` | one of `tau=`, `keep=` size, `error=` target, `coverage=` share (τ = 12); `state=recompute` or `reuse` (`recompute`); `select=` any [selection](lb_am::selectors) by its name, its own arguments in parentheses, `select=snapkv(window=16;pool=5)` (`per-head`); `score=mean`, `max` or `rms` over the queries (`rms`); `heads=equal`, `layer`, `all` or `coverage`, how the count is shared out among heads (`all` for `per-head`, `equal` for others), with `floor=` what each keeps in any case (0.2); `spans=` positions, 1 for none, `sentences` or `segments`, with `fade=` the part of a score that its neighbours get (9 and 0.3; 1 with `spans=` alone); `fold=none`, `mass`, `similar` (with `threshold=`, 0) or `backfill` (with `rank=`, 2): what [the rest](lb_am::Folding) leaves to what is kept (`none`); `fit=all`, `none`, `values` or `biases` (`all`); `echo=` tokens, `earlier=` tokens of earlier answers, `vectors=` a file of [learned vectors](crate::Learned) and `draft=` tokens, of which those that are said leave the others out (128, 0, none, and 64, or 4 beside an echo), with `weight=` of each vector beside a token of the task (1), `over=briefing` or `full` (`briefing`), `first=` ratio of the first briefing (0.5) and `check=` written tokens before the full cache has a look (8, 0 for a draft as it is); `queries=task`, or with `context`, `repeat` or `self-study` for no task in particular ([`QuerySource`](crate::QuerySource), `task`); `chunks=` positions that are compacted apart, or `pieces=` that are read apart as well and then moved ([`Chunking`](crate::Chunking), none); `bits=16`, `8`, `4` or `2` of each number that is stored (16, the cache's own dtype) |
/// | `renewed-briefing`, `latent-briefing:keep=0.1,renew=16` | all of those, and `renew=` written tokens between two briefings (16) |
///
/// A size is a ratio above 0 and at most 1, or a number of positions with a `t` behind it.
///
/// ```
/// use lb_session::{Handoff, SelectionSize};
///
/// let handoff: Handoff = "bm25:64t".parse()?;
/// assert_eq!(handoff, Handoff::bm25(SelectionSize::KeptLen(64)));
/// assert!("bm25:2.5".parse::<Handoff>().is_err());
/// # Ok::<(), lb_session::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Handoff {
    /// Not at all: the task alone.
    None,
    /// The whole cache, as it is.
    FullKv,
    /// The whole cache in fewer bits, beside the full one, which stays as it is; packed once until the trajectory grows.
    PackedKv(Storage),
    /// The whole text that entered the cache, read anew. All of it, also where the oldest part of the cache was compacted:
    /// what does not fit the model is refused, never cut.
    TextReplay,
    /// The orchestrator's notes ([`WorkerSession::note`](crate::WorkerSession::note)) as text in the trajectory's place,
    /// read anew.
    Notes,
    /// A summary that the worker writes over the full cache, as text in the trajectory's place, read anew.
    Summary(SummaryConfig),
    /// The passages of the trajectory's text that match the task's question best (Okapi BM25), in their own order, read
    /// anew. Segments are passages; longer ones are cut between sentences.
    ///
    /// The best that fit are taken until the size is used up; what matches no word of the question is left out. Where
    /// nothing matches, the most recent passages are taken instead. A word is what Unicode calls one, in lower case, and
    /// of identifiers each part as well; nothing is stemmed and no word is left out as too common, so that any language,
    /// number or name is found as it is written.
    #[serde(rename = "bm25")]
    Bm25 {
        /// How much, of the text's tokens. The template's head counts towards it.
        size: SelectionSize,
        /// Longest passage, in tokens, at least 1.
        #[serde(default = "default_passage")]
        passage: usize,
    },
    /// What is left of the text, read anew, without what the worker could have guessed. It costs one more pass over the text, with logits,
    /// until the trajectory grows.
    SelectiveContext(SelectiveContext),
    /// What is left of the text, read anew, after LLMLingua. It costs the pass of [`SelectiveContext`](Self::SelectiveContext), and the chosen
    /// passages and what is kept of them are read once more, until the trajectory grows.
    #[serde(rename = "llmlingua")]
    LlmLingua(LlmLingua),
    /// What is left of the text for the task's question, read anew, after LongLLMLingua. It costs a pass over the text and the question behind
    /// every passage, and the chosen passages and what is kept of them are read twice more, with and without the question, for
    /// each task.
    #[serde(rename = "longllmlingua")]
    LongLlmLingua(LongLlmLingua),
    /// Sentences of the text as they stand, in their own order, read anew: those that the task needs most. A line of which any is kept keeps
    /// its label and its end.
    Sentences {
        /// How much, of the text's tokens. The template's head counts towards it.
        size: SelectionSize,
        /// How it is told.
        #[serde(default)]
        by: SentenceScore,
    },
    /// The shortest of several messages that the worker writes for the task over the full cache which leaves its answer as it is, read
    /// anew. It costs writing all of them, an answer drafted over the full cache, and reading messages and answer until one is
    /// short and close enough.
    Squeeze(SqueezeConfig),
    /// The cache of the most recent positions, unchanged.
    Recent(SelectionSize),
    /// The cache of positions drawn by lot, unchanged.
    Random {
        /// How many.
        size: SelectionSize,
        /// Same seed, same positions.
        #[serde(default)]
        seed: u64,
    },
    /// A briefing: the cache, compacted for the task.
    LatentBriefing(Box<BriefConfig>),
    /// A briefing that is renewed from the answer's own queries while the answer is written. Only here, where the full cache is
    /// at hand; a [`Briefing`](crate::Briefing) on its way to somewhere else cannot.
    RenewedBriefing(Box<Renewal>),
}

const PASSAGE: usize = 128;

fn default_passage() -> usize {
    PASSAGE
}

impl Handoff {
    /// A briefing; from a [`Compaction`](lb_am::Compaction) alone, one whose task is read again over it.
    pub fn briefing(config: impl Into<BriefConfig>) -> Self {
        Self::LatentBriefing(Box::new(config.into()))
    }

    /// Retrieval of passages of up to 128 tokens.
    pub fn bm25(size: SelectionSize) -> Self {
        Self::Bm25 { size, passage: PASSAGE }
    }

    /// Which it is.
    pub fn kind(&self) -> HandoffKind {
        match self {
            Self::None => HandoffKind::None,
            Self::FullKv => HandoffKind::FullKv,
            Self::PackedKv(_) => HandoffKind::PackedKv,
            Self::TextReplay => HandoffKind::TextReplay,
            Self::Notes => HandoffKind::Notes,
            Self::Summary(_) => HandoffKind::Summary,
            Self::Bm25 { .. } => HandoffKind::Bm25,
            Self::SelectiveContext(_) => HandoffKind::SelectiveContext,
            Self::LlmLingua(_) => HandoffKind::LlmLingua,
            Self::LongLlmLingua(_) => HandoffKind::LongLlmLingua,
            Self::Sentences { .. } => HandoffKind::Sentences,
            Self::Squeeze(_) => HandoffKind::Squeeze,
            Self::Recent(_) => HandoffKind::Recent,
            Self::Random { .. } => HandoffKind::Random,
            Self::LatentBriefing(_) => HandoffKind::LatentBriefing,
            Self::RenewedBriefing(_) => HandoffKind::RenewedBriefing,
        }
    }

    /// How its briefings are made, where it makes any; of a renewed one, how each of them is.
    pub fn brief_config(&self) -> Option<&BriefConfig> {
        match self {
            Self::LatentBriefing(config) => Some(config),
            Self::RenewedBriefing(renewal) => Some(&renewal.briefing),
            _ => None,
        }
    }

    /// Whether the worker reads text in the trajectory's place.
    pub fn is_text(&self) -> bool {
        matches!(
            self,
            Self::TextReplay
                | Self::Notes
                | Self::Summary(_)
                | Self::Bm25 { .. }
                | Self::SelectiveContext(_)
                | Self::LlmLingua(_)
                | Self::LongLlmLingua(_)
                | Self::Sentences { .. }
                | Self::Squeeze(_)
        )
    }

    /// The name used in reports and JSON.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Error::Config`] and [`Error::Compaction`] naming the first field that does not hold.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::PackedKv(Storage::Full) => {
                Err(Error::config("bits", 16, "the cache as it is goes by the name full-kv"))
            }
            Self::None | Self::FullKv | Self::PackedKv(_) | Self::TextReplay | Self::Notes => Ok(()),
            Self::Summary(config) => config.validate(),
            Self::Bm25 { passage: 0, .. } => Err(Error::config("passage", 0, "want at least 1")),
            Self::Bm25 { size, .. }
            | Self::Sentences { size, .. }
            | Self::SelectiveContext(SelectiveContext { size, .. })
            | Self::Recent(size)
            | Self::Random { size, .. } => size.validate(),
            Self::LlmLingua(config) => config.validate(),
            Self::LongLlmLingua(config) => config.validate(),
            Self::Squeeze(config) => config.validate(),
            Self::LatentBriefing(config) => config.validate(),
            Self::RenewedBriefing(renewal) => renewal.validate(),
        }
    }
}

impl Default for Handoff {
    /// A briefing by the default [`BriefConfig`], as the text `latent-briefing` says it.
    fn default() -> Self {
        Self::briefing(BriefConfig::default())
    }
}

impl From<&Handoff> for Handoff {
    fn from(handoff: &Handoff) -> Self {
        handoff.clone()
    }
}

impl From<BriefConfig> for Handoff {
    fn from(config: BriefConfig) -> Self {
        Self::briefing(config)
    }
}

impl From<Renewal> for Handoff {
    fn from(renewal: Renewal) -> Self {
        Self::RenewedBriefing(Box::new(renewal))
    }
}

impl From<Compaction> for Handoff {
    fn from(compaction: Compaction) -> Self {
        Self::briefing(compaction)
    }
}

/// What is made of one text for more than one call.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// A summary for any task, template head first.
    summary: Last<SummaryConfig, Vec<u32>>,
    /// The passages of the text, by how long they may be.
    passages: Last<usize, Arc<Passages>>,
    /// What each token of the text says.
    information: Last<(), Information>,
    /// The text after LLMLingua, template head first.
    pruned: Last<LlmLingua, Vec<u32>>,
    /// The full cache, by the bits that it is in.
    packed: Last<PackedBits, Arc<KvCache>>,
}
