//! Self-information of a trajectory's text: one pass with the worker, kept until the trajectory grows.

use std::sync::Arc;

use super::last::Last;
use super::likelihood::read;
use crate::Result;
use crate::context::Reader;

/// What each token of the text says given all in front of it, -ln p under the worker, in nats.
pub(crate) type Information = Arc<Vec<f64>>;

/// The information of the text, and how many tokens were read for it. The passes in which a trajectory enters a cache make no
/// logits, so that this is a pass of its own.
///
/// A text that is longer than the model goes is read in windows; each begins with the template's head and the half before.
pub(super) fn of_text(reader: Reader<'_>, known: &Last<(), Information>) -> Result<(Information, usize)> {
    if let Some(known) = known.get(&()) {
        return Ok((known, 0));
    }
    let (context, tokens) = (reader.context, &reader.context.text.tokens);
    let limit = context.worker().config().position_limit();
    let (mut cache, mut last, mut all, mut cost) = (context.model().new_cache(), None, Vec::new(), 0);
    while all.len() < tokens.len() {
        if cache.logical_len() == limit {
            cache = context.model().new_cache();
            let head = context.head();
            let again = &tokens[head.len().max(all.len() - limit / 2)..all.len()];
            let reading = read(reader, &[head, again].concat(), None, &mut cache)?;
            cost += cache.logical_len();
            last = Some(reading.last);
        }
        let to = tokens.len().min(all.len() + limit - cache.logical_len());
        let reading = read(reader, &tokens[all.len()..to], last.as_ref(), &mut cache)?;
        cost += reading.nats.len();
        all.extend(reading.nats);
        last = Some(reading.last);
    }
    let information = Arc::new(all);
    known.keep((), information.clone());
    Ok((information, cost))
}
