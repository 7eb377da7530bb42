//! What all pictures share: a font, colours, and files that are whole or not there.

use std::path::Path;
use std::sync::Once;

use lb_io::files::Output;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;

use crate::{Error, Result};

/// The font is registered once for the process.
static FONT: Once = Once::new();

/// Colours that stay apart in print and for most colour-blind eyes (Okabe and Ito).
pub(crate) const COLOURS: [(u8, u8, u8); 8] = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
    (115, 115, 115),
    (20, 20, 20),
];

/// Lines and letters.
pub(crate) const INK: RGBColor = RGBColor(35, 33, 29);
/// A grid behind them.
pub(crate) const FAINT: RGBColor = RGBColor(226, 220, 207);

pub(crate) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
/// What went wrong, as plotters says it.
pub(crate) type Drawn = std::result::Result<(), String>;

/// Of a series; those after the palette's end have the first ones' again.
pub(crate) fn colour(index: usize) -> RGBColor {
    let (r, g, b) = COLOURS[index % COLOURS.len()];
    RGBColor(r, g, b)
}

/// A fault of plotters in words.
pub(crate) fn say(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Lets `draw` fill a PNG of `size` pixels.
///
/// # Errors
/// [`Error::Io`] names the file, [`Error::Plot`] says what `draw` could not do.
pub(crate) fn write(path: &Path, size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<()> {
    FONT.call_once(|| {
        // Fails only for a font that is no font.
        let _ = plotters::style::register_font(
            "sans-serif",
            FontStyle::Normal,
            epaint_default_fonts::UBUNTU_LIGHT,
        );
    });
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = Output::with_suffix(path, ".png").map_err(io)?;
    {
        let root = BitMapBackend::new(file.path(), size).into_drawing_area();
        draw(&root).map_err(|reason| Error::Plot { reason })?;
        root.present().map_err(|error| Error::Plot { reason: error.to_string() })?;
    }
    file.finish().map_err(io)
}
