//! Briefings and runs that explain themselves: what was kept, with which score, on a terminal and as an HTML page.
//!
//! [`excerpt`] and [`heat_map`] show a briefing; with the feature `runs`, [`run_page`] and [`trace`] show what an
//! orchestrator and its worker did, turn by turn.

#[cfg(feature = "runs")]
mod call_view;
mod error;
#[cfg(feature = "runs")]
mod figures;
mod html;
#[cfg(feature = "runs")]
mod map_view;
#[cfg(feature = "runs")]
mod python;
#[cfg(feature = "runs")]
mod run_page;
#[cfg(feature = "runs")]
mod seen;
mod terminal;
#[cfg(feature = "runs")]
mod trace;
#[cfg(feature = "runs")]
mod turn_view;
#[cfg(feature = "runs")]
mod visible;

pub use error::{Error, Result};
pub use html::{heat_map, renewed_heat_map};
#[cfg(feature = "runs")]
pub use run_page::run_page;
pub use terminal::{excerpt, paint};
#[cfg(feature = "runs")]
pub use trace::trace;

use lb_session::Position;

/// [`lb_session::heat`] of a briefing's positions.
fn heat(positions: &[Position]) -> Vec<f32> {
    lb_session::heat(positions.iter().map(|p| (p.score, p.kept)))
}

const PALETTE: &str = include_str!("palette.css");

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
