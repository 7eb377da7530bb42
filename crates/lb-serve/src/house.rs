//! What is done without being asked for: times to live, memory, the store's rest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Tenant;
use crate::engine::{Job, Work};
use crate::http::App;
use crate::metrics::count;
use crate::trajectories::Trajectory;

/// How often times to live and memory are looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// How often the store is swept.
const SWEEP: Duration = Duration::from_hours(1);

/// Leaves the caches of long trajectories in the store, so that whoever serves next need not read them again.
pub(crate) async fn store_sessions(app: &App) {
    if app.storage.is_none() {
        return;
    }
    for trajectory in app.trajectories.all() {
        if !trajectory.is_worth_storing() {
            continue;
        }
        let (segments, positions) = (trajectory.len(), trajectory.positions());
        rested(app, &trajectory).await;
        let Some(file) = trajectory.resting_file() else { continue };
        match app.write_session(&trajectory, (file, segments, positions)).await {
            Ok(()) => trajectory.is_stored(segments),
            Err(error) => tracing::warn!(trajectory = trajectory.id, %error, "its cache is not stored"),
        }
    }
}

/// Takes a trajectory out of memory, before whatever else waits.
async fn rested(app: &App, trajectory: &Arc<Trajectory>) {
    let work = Work::Rest { trajectory: trajectory.clone() };
    let (job, mut listening) = Job::new(Tenant::local(), work, app.config.request_time);
    app.engine.submit_first(job);
    listening.events.recv().await;
}

/// Forgets what is over its time, and takes out of memory what does not fit.
pub(crate) async fn keep_house(app: Arc<App>) {
    let (mut tick, mut swept) = (tokio::time::interval(HOUSEKEEPING), Instant::now());
    loop {
        tick.tick().await;
        app.engine.prune();
        app.forget_old().await;
        if swept.elapsed() > SWEEP {
            app.sweep().await;
            swept = Instant::now();
        }
        for trajectory in app.trajectories.too_many() {
            rested(&app, &trajectory).await;
        }
        app.metrics.trajectories.set(count(app.trajectories.len()));
        app.metrics.trajectory_bytes.set(count(app.trajectories.bytes()));
    }
}
