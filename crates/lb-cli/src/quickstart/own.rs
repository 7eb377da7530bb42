//! A model that nobody taught the language of the notes answers in its own words, and a small one mostly wrong. So what is told
//! is how much of its own answers over the full cache is left over less.

use lb_am::Compaction;
use lb_eval::episodes::{Episode, EpisodeConfig};
use lb_eval::logs::{GENERATED_WORDS, generated};
use lb_eval::retained::{self, RetainedPlan, Target};
use lb_eval::stats::bootstrap::Bootstrap;
use lb_model::Worker;
use lb_session::CancelToken;

use super::{Args, show};
use crate::{Result, bar, say};

pub(super) fn measure(args: &Args, worker: &Worker, compaction: &Compaction) -> Result<()> {
    let episodes = args.episodes.unwrap_or(2);
    let items = generated(args.seed, episodes as usize, 5)?;
    let first = Episode::generate(args.seed, &EpisodeConfig::held_out(GENERATED_WORDS, 5))?;
    show::one(worker, &first, compaction, args.html.as_deref())?;

    let size = match args.tau {
        Some(tau) => format!("tau={tau}"),
        None => format!("keep={}", args.keep_ratio),
    };
    let conditions = vec![
        "full-kv".to_owned(),
        format!("latent-briefing:{size}"),
        format!("recent:{}", args.keep_ratio),
        format!("random:{},seed={}", args.keep_ratio, args.seed),
        "none".to_owned(),
    ];
    let plan = RetainedPlan { conditions, target: Target::Own, target_tokens: 32, ..RetainedPlan::default() };
    let bar = bar(items.len() as u64, "questions");
    let cancel = CancelToken::new();
    let rows = retained::run(worker, &plan, &items, None, &cancel, &|_| bar.inc(1))?.rows;
    bar.finish_and_clear();
    let summary = retained::summarise(worker.name(), "generated", &rows, &Bootstrap::default())?;
    say!(
        "{}\n\n{}\n\nThe notes are made up, so that nobody can have learnt them, and {} questions say little: \
         `latent-briefing bench logs` measures recorded logs of your own, more of them, in the same way.",
        retained::table(&summary),
        summary.meaning(),
        summary.items,
    );
    args.json.end(&summary)
}
