//! What is written down of trajectories, before anybody is told that it is there.

use lb_session::Segment;

use crate::http::App;
use crate::trajectories::Trajectory;
use crate::{Refusal, Tenant};

impl App {
    /// Writes down that a trajectory begins.
    pub(crate) async fn write_beginning(&self, _: &Trajectory) -> Result<(), Refusal> {
        Ok(())
    }

    /// Writes segments down as the record `number`.
    pub(crate) async fn write_segments(&self, _: &Trajectory, _: u64, _: &[Segment]) -> Result<(), Refusal> {
        Ok(())
    }

    /// Forgets a trajectory, here and where it is written down.
    pub(crate) async fn forget(&self, tenant: &Tenant, id: &str) -> Result<(), Refusal> {
        match self.trajectories.remove(tenant, id) {
            Some(trajectory) => self.forgotten(&trajectory).await,
            None => Ok(()),
        }
    }

    /// Forgets one that is not found any more.
    pub(crate) async fn forgotten(&self, trajectory: &Trajectory) -> Result<(), Refusal> {
        trajectory.forget();
        Ok(())
    }
}
