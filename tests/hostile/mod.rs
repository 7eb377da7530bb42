//! Inputs and neighbours that mean harm: nothing escapes a limit, nothing that was synced is lost.

mod full_disk;
mod host_calls;
mod readers;
mod shown;
mod templates;
mod two_processes;
mod writers;

/// Runs whose worker reads findings and nothing of what blocks print; `log` is where their logs go.
fn findings_alone(log: Option<&std::path::Path>) -> latent_briefing::orchestrate::RlmConfig {
    use latent_briefing::am::Compaction;
    use latent_briefing::orchestrate::RlmConfig;
    use latent_briefing::session::{BoundaryPolicy, Handoff, Source};
    let handoff = Handoff::briefing(Compaction::keep_ratio(0.5));
    let mut config =
        RlmConfig { handoff, log_dir: log.map(std::path::Path::to_owned), ..RlmConfig::default() };
    config.session.policy = BoundaryPolicy::nothing().admitting([Source::Finding]);
    config
}
