//! Tests of `lb-orchestrate` on the built-in worker.

mod api;
mod ask;
mod base_model;
mod batch;
mod brief_as;
mod combinations;
mod document;
mod drafts;
mod each;
mod explain;
mod handoff;
mod handoff_text;
mod handoffs;
mod learned;
mod ledger;
mod local;
mod long;
mod packed;
mod policies;
mod policy;
mod price;
mod program;
mod recorded;
mod renewal;
mod repl;
mod repl_answer;
mod repl_confined;
mod repl_dialect;
mod repl_faults;
mod repl_process;
mod rlm;
mod room;
mod run_page;
mod selections;
mod session;
mod snapshot;
mod stored;

use latent_briefing::prelude::*;

use crate::support::embedded;

/// A session with a few lines of notes.
fn notes() -> WorkerSession {
    let mut session = embedded().session().unwrap();
    for segment in lines() {
        session.extend(segment).unwrap();
    }
    session
}

fn lines() -> Vec<Segment> {
    vec![
        Segment::finding("The Velmar ledger is kept by Anara."),
        Segment::tool("Grep the Oslund relay: no match in part 2."),
        Segment::finding("The code of the Oslund relay is 4821."),
        Segment::reasoning("Perhaps the Velmar ledger is kept by Tolio."),
        Segment::finding("Correction: the code of the Oslund relay is 5521, not 4821."),
        Segment::finding("The Torwick vault is stored in Coldhaven."),
        Segment::artifact("Table 1: two items, one code."),
        Segment::finding("Anara works in Redmoor."),
    ]
}

/// Keys, values and biases of every layer as plain numbers.
fn contents(cache: &latent_briefing::model::KvCache) -> Vec<Vec<f32>> {
    let flat = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let layers = cache.layers().unwrap();
    layers
        .iter()
        .flat_map(|l| [flat(&l.keys), flat(&l.values), l.bias.as_ref().map(flat).unwrap_or_default()])
        .collect()
}
