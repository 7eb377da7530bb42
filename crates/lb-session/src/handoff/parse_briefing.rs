//! Everything that a short text can say of a briefing.

use lb_am::{BetaMethod, Compaction, Folding, ScoreAgg, Selection, Sharing, Spans, Units, ValuesMethod};

use super::parse::{Arguments, size};
use super::{Handoff, HandoffKind, SelectionSize};
use crate::{
    BriefConfig, Chunking, Draft, DraftOver, Error, Learned, Lookahead, QuerySource, Renewal, Result,
    TaskState,
};

/// AdaKV's safeguard.
const FLOOR: f64 = 0.2;
/// kvpress' threshold: any two keys that do not point away from each other.
const THRESHOLD: f64 = 0.0;
/// H-OBF's.
const RANK: usize = 2;

impl Arguments<'_> {
    /// A briefing, renewed where `renew=` says so or the name does.
    pub(super) fn briefing_handoff(&mut self, kind: HandoffKind) -> Result<Handoff> {
        let every = self.number("renew")?;
        let briefing = self.briefing()?;
        Ok(match (every, kind) {
            (Some(every), _) => Renewal::every(every as usize, briefing).into(),
            (None, HandoffKind::RenewedBriefing) => Renewal { briefing, ..Renewal::default() }.into(),
            (None, _) => Handoff::briefing(briefing),
        })
    }

    /// A briefing from the arguments that are there; others stay.
    pub(super) fn briefing(&mut self) -> Result<BriefConfig> {
        let compaction = self.budget()?;
        let compaction = self.selection(compaction)?;
        let compaction = self.spans(compaction)?;
        let compaction = self.fold(compaction)?;
        let compaction = self.fit(compaction)?;
        let mut config = BriefConfig::from(compaction);
        let states = [("recompute", TaskState::Recompute), ("reuse", TaskState::Reuse)];
        if let Some(state) = self.one_of("state", &states, "want recompute or reuse")? {
            config.task_state = state;
        }
        config.lookahead = self.lookahead()?;
        config.chunking = self.chunking()?;
        let queries = [
            ("task", QuerySource::Task),
            ("context", QuerySource::ContextPrefill),
            ("repeat", QuerySource::RepeatPrefill),
            ("self-study", QuerySource::self_study()),
        ];
        if let Some(queries) = self.one_of("queries", &queries, "want task, context, repeat or self-study")? {
            config.queries = queries;
        }
        config.storage = self.storage()?;
        Ok(config)
    }

    pub(super) fn one_of<T: Clone>(
        &mut self,
        name: &'static str,
        values: &[(&str, T)],
        reason: &'static str,
    ) -> Result<Option<T>> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let found = values.iter().find(|(known, _)| *known == text);
        found
            .map(|(_, value)| Some(value.clone()))
            .ok_or_else(|| Error::config(name, format!("{text:?}"), reason))
    }

    fn budget(&mut self) -> Result<Compaction> {
        let keep = self.take("keep").map(size).transpose()?;
        match (self.real("tau")?, keep, self.real("error")?, self.real("coverage")?) {
            (None, None, None, None) => Ok(Compaction::default()),
            (Some(tau), None, None, None) => Ok(Compaction::mad(tau)),
            (None, Some(SelectionSize::KeepRatio(ratio)), None, None) => Ok(Compaction::keep_ratio(ratio)),
            (None, Some(SelectionSize::KeptLen(len)), None, None) => Ok(Compaction::kept_len(len)),
            (None, None, Some(epsilon), None) => Ok(Compaction::error_below(epsilon)),
            (None, None, None, Some(share)) => Ok(Compaction::coverage(share)),
            _ => Err(Error::config(
                "handoff",
                "latent-briefing",
                "want one of tau=, keep=, error= and coverage=",
            )),
        }
    }

    fn selection(&mut self, compaction: Compaction) -> Result<Compaction> {
        let mut compaction = match self.take("select") {
            None => compaction,
            Some(text) => compaction.with_selection(text.parse::<Selection>()?),
        };
        let scores = [("mean", ScoreAgg::Mean), ("max", ScoreAgg::Max), ("rms", ScoreAgg::Rms)];
        if let Some(score) = self.one_of("score", &scores, "want mean, max or rms")? {
            compaction.score = score;
        }
        let floor = self.real("floor")?;
        let of = floor.unwrap_or(FLOOR);
        let sharings = [
            ("equal", Sharing::Equal),
            ("layer", Sharing::Layer { floor: of }),
            ("all", Sharing::All { floor: of }),
            ("coverage", Sharing::Coverage { floor: of }),
        ];
        match (self.one_of("heads", &sharings, "want equal, layer, all or coverage")?, floor) {
            (Some(Sharing::Equal) | None, Some(floor)) => {
                Err(Error::config("floor", floor, "goes with heads=layer, all or coverage"))
            }
            (Some(sharing), _) => Ok(compaction.with_sharing(sharing)),
            (None, None) => Ok(compaction),
        }
    }

    fn spans(&mut self, compaction: Compaction) -> Result<Compaction> {
        let fade = self.real("fade")?;
        let spans = match self.take("spans") {
            None if fade.is_some() => {
                return Err(Error::config("fade", "given", "goes with spans= positions"));
            }
            None => return Ok(compaction),
            Some("sentences") => Spans::Units(Units::Sentences),
            Some("segments") => Spans::Units(Units::Segments),
            Some(width) => Spans::Max {
                width: width.parse().map_err(|_| {
                    let reason = "want an odd number of positions, sentences or segments";
                    Error::config("spans", format!("{width:?}"), reason)
                })?,
            },
        };
        match (spans, fade) {
            (Spans::Max { width }, Some(factor)) => Ok(compaction.with_spans(Spans::Faded { width, factor })),
            (_, Some(_)) => Err(Error::config("fade", "given", "goes with spans= positions")),
            (spans, None) => Ok(compaction.with_spans(spans)),
        }
    }

    fn fold(&mut self, compaction: Compaction) -> Result<Compaction> {
        let (threshold, rank) = (self.real("threshold")?, self.number("rank")?);
        let similar = Folding::Similar { threshold: threshold.unwrap_or(THRESHOLD) };
        let backfill = Folding::Backfill { rank: rank.map_or(RANK, |rank| rank as usize) };
        let foldings =
            [("none", Folding::None), ("mass", Folding::Mass), ("similar", similar), ("backfill", backfill)];
        let folding = self.one_of("fold", &foldings, "want none, mass, similar or backfill")?;
        let is_similar = matches!(folding, Some(Folding::Similar { .. }));
        if let (Some(threshold), false) = (threshold, is_similar) {
            return Err(Error::config("threshold", threshold, "goes with fold=similar"));
        }
        let is_backfill = matches!(folding, Some(Folding::Backfill { .. }));
        if let (Some(rank), false) = (rank, is_backfill) {
            return Err(Error::config("rank", rank, "goes with fold=backfill"));
        }
        Ok(match folding {
            Some(folding) => compaction.with_folding(folding),
            None => compaction,
        })
    }

    fn fit(&mut self, compaction: Compaction) -> Result<Compaction> {
        Ok(match self.take("fit") {
            None | Some("all") => compaction,
            Some("none") => compaction.selection_only(),
            Some("values") => compaction.with_beta(BetaMethod::Zero),
            Some("biases") => compaction.with_values(ValuesMethod::Copy),
            Some(other) => {
                return Err(Error::config("fit", format!("{other:?}"), "want all, none, values or biases"));
            }
        })
    }

    fn chunking(&mut self) -> Result<Option<Chunking>> {
        let (chunks, pieces) = (self.number("chunks")?, self.number("pieces")?);
        Ok(match (chunks, pieces) {
            (None, None) => None,
            (Some(positions), None) => Some(Chunking::in_place(positions as usize)),
            (None, Some(positions)) => Some(Chunking::rerotated(positions as usize)),
            (Some(_), Some(_)) => return Err(Error::config("pieces", "given", "want chunks= or pieces=")),
        })
    }

    /// `None` where nothing is said of it.
    fn lookahead(&mut self) -> Result<Option<Lookahead>> {
        let overs = [("briefing", DraftOver::Briefing), ("full", DraftOver::Full)];
        let over = self.one_of("over", &overs, "want briefing or full")?;
        let (first, check) = (self.real("first")?, self.number("check")?);
        let (echo, tokens) = (self.number("echo")?, self.number("draft")?);
        let earlier = self.number("earlier")?;
        let learned = self.learned()?;
        let more = over.is_some() || first.is_some() || check.is_some();
        if more && tokens.is_none_or(|tokens| tokens == 0) {
            return Err(Error::config("draft", "nothing", "over=, first= and check= go with draft= tokens"));
        }
        if echo.is_none() && tokens.is_none() && earlier.is_none() && learned.is_none() {
            return Ok(None);
        }
        let draft = tokens.filter(|tokens| *tokens > 0).map(|tokens| {
            let usual = match over {
                Some(DraftOver::Full) => Draft::over_full(tokens as usize),
                _ => Draft::of(tokens as usize),
            };
            let check = check.map_or(usual.check, |check| check as usize);
            Draft { first: first.or(usual.first), check, ..usual }
        });
        let tokens = |tokens: Option<u64>| tokens.unwrap_or(0) as usize;
        Ok(Some(Lookahead { echo: tokens(echo), earlier: tokens(earlier), learned, draft }))
    }

    fn learned(&mut self) -> Result<Option<Learned>> {
        let weight = self.real("weight")?;
        match (self.take("vectors"), weight) {
            (None, Some(weight)) => Err(Error::config("weight", weight, "goes with vectors= a file")),
            (None, None) => Ok(None),
            (Some(file), weight) => {
                let usual = Learned::of(file);
                Ok(Some(Learned { weight: weight.unwrap_or(usual.weight), ..usual }))
            }
        }
    }
}
