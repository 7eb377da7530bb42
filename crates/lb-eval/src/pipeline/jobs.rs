//! Several at a time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lb_session::CancelToken;

use crate::Result;

/// Calls `work` with 0 to `total - 1`, on `jobs` threads, until all are done, one fails or `cancel` is called. All that
/// were begun are waited for; the first error counts.
///
/// # Errors
/// The first of `work`.
pub fn in_parallel(
    total: usize,
    jobs: usize,
    cancel: &CancelToken,
    work: &(dyn Fn(usize) -> Result<()> + Sync),
) -> Result<()> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let thread = || {
        while !stop.load(Ordering::Relaxed) && !cancel.is_cancelled() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= total {
                break;
            }
            if let Err(error) = work(number) {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    if jobs.min(total) < 2 {
        return thread();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs.min(total)).map(|_| scope.spawn(thread)).collect();
        let ended = threads.into_iter().map(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        // Collected first: all are waited for.
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}
