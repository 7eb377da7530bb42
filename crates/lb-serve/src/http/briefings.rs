//! Briefings as objects: made once, kept in the store, answered over by any worker of the same model.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use lb_session::{Handoff, Task};
use lb_store::ObjectKind;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use super::answers::{made, submit};
use super::caller::Caller;
use super::json::Body;
use crate::engine::Work;
use crate::journal::Storage;
use crate::trajectories::random_name;
use crate::wire::briefing::handoff;
use crate::{Refusal, Tenant};

/// `POST /v1/trajectories/{id}/briefings`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Brief {
    /// What will be asked.
    task: String,
    /// A text that the worker sees before it, for this task alone.
    slice: Option<String>,
    /// `latent-briefing:keep=0.1`, ...
    #[schema(value_type = Option<Object>)]
    handoff: Option<Value>,
}

/// A briefing from the store, in a folder of its own that goes with it.
pub(crate) struct Fetched {
    pub(crate) file: PathBuf,
    _folder: tempfile::TempDir,
}

/// A file that goes when nobody needs it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl App {
    fn store(&self) -> Result<&Storage, Refusal> {
        let none = || Refusal::unsupported("briefing", "this server has no store (--store)");
        self.storage.as_ref().ok_or_else(none)
    }

    /// The file of a stored briefing, checked to its last byte.
    pub(crate) async fn briefing(&self, tenant: &Tenant, id: &str) -> Result<Fetched, Refusal> {
        let folder = tempfile::tempdir_in(&self.folder).map_err(|error| Refusal::Store(error.to_string()))?;
        let fetched = self.store()?.get(ObjectKind::Briefing, tenant, id, folder.path()).await;
        let fetched = fetched.map(|file| Fetched { file, _folder: folder });
        fetched.map_err(|error| match error {
            lb_store::Error::Absent { .. }
            | lb_store::Error::Expired { .. }
            | lb_store::Error::Field { .. } => Refusal::Absent { what: "briefing", name: id.to_owned() },
            // Another model's: the text has to be read by this one.
            error @ lb_store::Error::Mismatch { .. } => Refusal::Conflict(error.to_string()),
            other => Refusal::Store(other.to_string()),
        })
    }
}

/// `POST /v1/trajectories/{id}/briefings`.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    Body(brief): Body<Brief>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let storage = app.store()?;
    let trajectory = app.trajectory(&tenant, &id).await?;
    let Handoff::LatentBriefing(config) = handoff("handoff", brief.handoff.as_ref())? else {
        return Err(Refusal::field("handoff", "want a briefing (latent-briefing)"));
    };
    let file = Temporary(app.folder.join(format!("{}.briefing", random_name()?)));
    let question = brief.task.clone();
    let task = Task { slice: brief.slice, question: brief.task };
    let work = Work::Brief { trajectory, task, config, file: file.0.clone() };
    let usage = made(submit(&app, &tenant, work)?).await?;
    let bytes = std::fs::metadata(&file.0).map(|file| file.len()).unwrap_or_default();
    let about = (usage.seq_len, Some(question.chars().take(200).collect()));
    let object = storage.put(ObjectKind::Briefing, &tenant, "briefing", about, file.0.clone()).await?;
    let told =
        json!({ "id": object, "object": "briefing", "trajectory": id, "bytes": bytes, "usage": usage });
    Ok((StatusCode::CREATED, Json(told)))
}
