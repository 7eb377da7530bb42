//! What a briefing kept, in few bytes.

use serde::{Deserialize, Serialize};

use super::Briefing;

/// What a briefing kept and how the task scored each position, a byte each: what a log has of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BriefingMap {
    /// Positions of the trajectory, template head counted in.
    pub seq_len: usize,
    /// Positions kept, on average over layers and heads.
    pub kept_len: usize,
    /// Kept / original.
    pub keep_ratio: f64,
    /// For each position, which share of the (layer, KV head) pairs have it, in percent.
    pub kept_by: Vec<u8>,
    /// For each position, its score from 0 (the lowest that was kept) to 100 (the highest), by logarithm.
    pub heat: Vec<u8>,
}

impl Briefing {
    /// What it kept, in few bytes.
    pub fn map(&self) -> BriefingMap {
        let percent = |share: f32| (100.0 * share.clamp(0.0, 1.0)).round() as u8;
        let (scores, many) = (self.report.scores.iter().zip(&self.kept_by), self.many());
        let heat = heat(scores.map(|(&score, &kept_by)| (score, kept_by >= many)));
        BriefingMap {
            seq_len: self.seq_len(),
            kept_len: self.kept_len(),
            keep_ratio: self.keep_ratio(),
            kept_by: self.kept_by.iter().copied().map(percent).collect(),
            heat: heat.into_iter().map(percent).collect(),
        }
    }
}

/// How each score compares with the others: 0 for the lowest kept score, 1 for the highest, by logarithm, since attention
/// weights span orders of magnitude. A position is its score and whether it was kept.
pub fn heat(positions: impl Iterator<Item = (f32, bool)>) -> Vec<f32> {
    let (logs, kept): (Vec<f32>, Vec<bool>) =
        positions.map(|(score, kept)| (score.max(1e-12).ln(), kept)).unzip();
    let kept = logs.iter().zip(kept).filter(|(_, kept)| *kept).map(|(l, _)| *l);
    let (low, high) = kept.fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), l| (a.min(l), b.max(l)));
    let span = if high > low { high - low } else { 1.0 };
    logs.iter().map(|l| ((l - low) / span).clamp(0.0, 1.0)).collect()
}
