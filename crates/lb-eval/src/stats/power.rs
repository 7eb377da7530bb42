//! How many paired items show a difference, and which difference so many items can show.
//!
//! For McNemar's test with a discordance rate ψ (share of items that exactly one of two conditions has right) and a
//! difference δ in accuracy:
//!
//! n = (z₁₋α⁄₂ √ψ + z₁₋β √(ψ − δ²))² / δ²
//!
//! Source: Connor, "Sample size for testing differences in proportions for the paired-sample design", Biometrics 43:207–211,
//! 1987 (after Miettinen, Biometrics 24:339–352, 1968).

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::{Error, Result};

/// What a comparison is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Share of items that exactly one of the two conditions has right, above 0 to 1.
    pub discordance: f64,
    /// Two-sided level of the test, above 0 and below 0.5.
    pub alpha: f64,
    /// Chance to see the difference where it is there, 0.5 to below 1.
    pub power: f64,
}

impl Plan {
    /// Level 0.05, power 0.8.
    pub fn new(discordance: f64) -> Self {
        Self { discordance, alpha: 0.05, power: 0.8 }
    }

    /// # Errors
    /// [`Error::Config`] names the field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if !(self.discordance > 0.0 && self.discordance <= 1.0) {
            return Err(Error::config("discordance", self.discordance, "want above 0 to 1"));
        }
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return Err(Error::config("alpha", self.alpha, "want above 0 and below 0.5"));
        }
        if !(0.5..1.0).contains(&self.power) {
            return Err(Error::config("power", self.power, "want 0.5 to below 1"));
        }
        Ok(())
    }

    fn raw(&self, difference: f64) -> f64 {
        let Ok(normal) = Normal::new(0.0, 1.0) else { return f64::NAN };
        let (level, power) = (normal.inverse_cdf(1.0 - self.alpha / 2.0), normal.inverse_cdf(self.power));
        let spread = (self.discordance - difference * difference).max(0.0).sqrt();
        ((level * self.discordance.sqrt() + power * spread) / difference).powi(2)
    }

    /// Paired items that it takes to see `difference` (0.03 for three points).
    ///
    /// # Errors
    /// [`Error::Config`] where the plan is out of range, or the difference is not above 0 and at most the discordance
    /// rate, which bounds it.
    pub fn items(&self, difference: f64) -> Result<u64> {
        self.validate()?;
        if !(difference > 0.0 && difference <= self.discordance) {
            let reason = "want above 0 and at most the discordance rate";
            return Err(Error::config("difference", difference, reason));
        }
        Ok(self.raw(difference).ceil() as u64)
    }

    /// The smallest difference that `items` paired items can show; `None` where they cannot even show one as large as the
    /// discordance rate.
    ///
    /// # Errors
    /// [`Error::Config`] where the plan is out of range or there are no items.
    pub fn smallest_difference(&self, items: u64) -> Result<Option<f64>> {
        const STEPS: usize = 100;
        self.validate()?;
        if items == 0 {
            return Err(Error::config("items", 0, "want at least 1"));
        }
        if self.raw(self.discordance) > items as f64 {
            return Ok(None);
        }
        // The number of items falls as the difference grows.
        let (mut low, mut high) = (0.0, self.discordance);
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            if self.raw(middle) > items as f64 { low = middle } else { high = middle }
        }
        Ok(Some(high))
    }
}
