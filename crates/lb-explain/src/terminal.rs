//! The heat map on a terminal.

use std::fmt::Write;

use anstyle::{Ansi256Color, Style};
use lb_io::shown::visible;
use lb_session::Position;

use super::heat;

/// From little to much attention, in the 256-colour palette: grey, yellow, orange, red.
const SCALE: [u8; 6] = [250, 229, 221, 214, 208, 196];

/// The whole trajectory: kept tokens coloured by score, dropped ones faint.
pub fn paint(positions: &[Position]) -> String {
    let faint = Style::new().dimmed();
    let mut out = String::new();
    for (position, heat) in positions.iter().zip(heat(positions)) {
        let style = if position.kept { colour(heat) } else { faint };
        push(&mut out, style, &position.piece);
    }
    out
}

/// Only the kept tokens, coloured by score, one line per stretch of text; `…` stands for what was dropped.
pub fn excerpt(positions: &[Position]) -> String {
    let mut out = String::new();
    let mut gap = false;
    for (position, heat) in positions.iter().zip(heat(positions)) {
        if !position.kept {
            gap = true;
            continue;
        }
        if gap {
            out.push_str(if out.ends_with('\n') || out.is_empty() { "… " } else { " … " });
        }
        gap = false;
        push(&mut out, colour(heat), &position.piece);
    }
    if gap {
        out.push_str(" …");
    }
    out
}

fn colour(heat: f32) -> Style {
    let step = (heat * (SCALE.len() - 1) as f32).round() as usize;
    Style::new().fg_color(Some(Ansi256Color(SCALE[step.min(SCALE.len() - 1)]).into())).bold()
}

/// Line breaks stay outside the style; some pagers lose colours across lines. Other characters that would act, which a
/// hostile document may hold, are shown by name and never reach the terminal.
fn push(out: &mut String, style: Style, piece: &str) {
    for (i, part) in piece.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if !part.is_empty() {
            let safe = visible(part);
            // Writing to a string cannot fail.
            let _ = write!(out, "{style}{safe}{style:#}");
        }
    }
}
