//! Trajectories, briefings, worker sessions and the orchestrator loop.
