//! Ctrl-C: once ends what is under way in good order, twice at once.

use lb_session::CancelToken;

use crate::{Exit, Result};

/// From here on Ctrl-C calls off what heeds `cancel`.
pub(crate) fn heed(cancel: &CancelToken) -> Result<()> {
    let cancel = cancel.clone();
    ctrlc::set_handler(move || {
        if cancel.is_cancelled() {
            std::process::exit(i32::from(Exit::Interrupted as u8));
        }
        cancel.cancel();
    })?;
    Ok(())
}
