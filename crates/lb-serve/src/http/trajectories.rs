//! Trajectories as resources.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use lb_session::{Segment, Source};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use super::answers::{done, submit};
use super::caller::Caller;
use super::json::Body;
use crate::engine::Work;
use crate::trajectories::{Settings, Trajectory};
use crate::{Refusal, Tenant};

/// Where nobody tells this server what the others use.
const UNTIMED: &str = "another server has this store's index; several servers need one in Redis (--index) to keep times to live";
/// Tries to append where several servers do.
const TRIES: usize = 8;
/// Segments of one request.
const SEGMENTS: usize = 10_000;

/// A segment.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SegmentField {
    /// `finding`, `reasoning`, `tool`, `artifact`, `code`, `reply` or `request`.
    source: Option<String>,
    text: String,
    /// Who said it, where several of one source do.
    name: Option<String>,
}

/// A segment, or its text alone: a finding.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OneSegment {
    Text(String),
    Fields(SegmentField),
}

impl OneSegment {
    fn fields(self) -> SegmentField {
        match self {
            Self::Text(text) => SegmentField { source: None, text, name: None },
            Self::Fields(fields) => fields,
        }
    }
}

/// Not untagged, so that an error names the field that is wrong.
impl<'de> Deserialize<'de> for OneSegment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = OneSegment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or an object with a text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneSegment, E> {
                Ok(OneSegment::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneSegment, A::Error> {
                SegmentField::deserialize(MapAccessDeserializer::new(map)).map(OneSegment::Fields)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// `POST /v1/trajectories`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Create {
    /// Its name; drawn by lot where it is missing.
    id: Option<String>,
    /// Seconds without use after which it is forgotten; never where it is missing.
    ttl_seconds: Option<u64>,
    /// The worker's system message.
    system: Option<String>,
    /// What it begins with.
    #[schema(required = false, default = json!([]))]
    segments: Vec<OneSegment>,
}

/// `POST /v1/trajectories/{id}/segments`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Append {
    segments: Vec<OneSegment>,
    /// How many segments stand before these. Where it is said, the same request twice appends once, and another writer's is seen.
    at: Option<usize>,
}

/// `POST /v1/trajectories/{id}/fork`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fork {
    /// The new one's name; drawn by lot where it is missing.
    id: Option<String>,
    ttl_seconds: Option<u64>,
}

fn segments(fields: Vec<OneSegment>) -> Result<Vec<Segment>, Refusal> {
    if fields.len() > SEGMENTS {
        return Err(Refusal::field("segments", format!("{}: want at most {SEGMENTS}", fields.len())));
    }
    let segment = |(index, field): (usize, OneSegment)| {
        let field = field.fields();
        let tag = field.source.as_deref().unwrap_or("finding");
        let known = || Source::ALL.map(Source::tag).join(", ");
        let source = Source::of_tag(tag).ok_or_else(|| {
            Refusal::field(format!("segments[{index}].source"), format!("want one of {}", known()))
        })?;
        if field.text.trim().is_empty() {
            return Err(Refusal::field(format!("segments[{index}].text"), "is empty"));
        }
        let segment = Segment::new(source, field.text);
        Ok(match field.name {
            Some(name) => segment.named(name),
            None => segment,
        })
    };
    fields.into_iter().enumerate().map(segment).collect()
}

fn described(trajectory: &Trajectory) -> Value {
    json!(trajectory.describe())
}

/// Carries on to its end, whether or not the client still listens: what is half done is nobody's.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    // What is done belongs to the request all the same.
    let work = tracing::Instrument::in_current_span(work);
    tokio::spawn(work).await.map_err(|error| Refusal::Internal(error.to_string()))?
}

/// `POST /v1/trajectories`.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Body(create): Body<Create>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let settings = Settings { ttl_seconds: time_to_live(&app, create.ttl_seconds)?, system: create.system };
    let segments = segments(create.segments)?;
    let trajectory = app.trajectories.begin(&tenant, create.id.as_deref(), settings)?;
    if create.id.is_some() {
        app.is_free(&tenant, &trajectory.id).await?;
    }
    app.trajectories.put(&trajectory)?;
    to_its_end(async move {
        let made = begin(&app, &tenant, &trajectory, segments).await;
        if made.is_err() {
            // Of what is written down under this name nothing may be ours.
            app.trajectories.remove(&tenant, &trajectory.id);
            trajectory.forget();
        }
        made?;
        Ok((StatusCode::CREATED, Json(described(&trajectory))))
    })
    .await
}

fn time_to_live(app: &App, seconds: Option<u64>) -> Result<Option<u64>, Refusal> {
    match seconds {
        Some(0) => Err(Refusal::field("ttl_seconds", "0: want at least 1")),
        Some(_) if !app.keeps_time() => Err(Refusal::unsupported("ttl_seconds", UNTIMED)),
        seconds => Ok(seconds),
    }
}

/// Reads what it begins with, and then writes it down: a name whose text does not fit stays free.
async fn begin(
    app: &App,
    tenant: &Tenant,
    trajectory: &Arc<Trajectory>,
    segments: Vec<Segment>,
) -> Result<(), Refusal> {
    let mut written = trajectory.order.lock().await;
    let some = !segments.is_empty();
    if some {
        let work = Work::Extend { trajectory: trajectory.clone(), segments: segments.clone() };
        done(submit(app, tenant, work)?).await?;
    } else {
        done(submit(app, tenant, Work::Open { trajectory: trajectory.clone() })?).await?;
    }
    *written = app.write_whole(trajectory, &segments).await?;
    if some {
        trajectory.acknowledge(segments);
    }
    Ok(())
}

/// Reads segments, writes them down, and then says so.
async fn enter(
    app: &App,
    tenant: &Tenant,
    trajectory: &Arc<Trajectory>,
    segments: Vec<Segment>,
    written: &mut u64,
) -> Result<Vec<(usize, usize)>, Refusal> {
    let work = Work::Extend { trajectory: trajectory.clone(), segments: segments.clone() };
    // Segments that are read and not written down are not there: whoever is called off here, the session is made anew.
    let unsure = TakeBack(Some(trajectory.clone()));
    match done(submit(app, tenant, work)?).await {
        Ok(entered) => {
            app.write_segments(trajectory, *written, &segments).await?;
            *written += 1;
            trajectory.acknowledge(segments);
            unsure.sure();
            Ok(entered)
        }
        // What could not be read has left the session as it was.
        Err(refusal @ (Refusal::TooLong(_) | Refusal::Field { .. })) => {
            unsure.sure();
            Err(refusal)
        }
        Err(refusal) => Err(refusal),
    }
}

/// Takes back what was read where it is not known to be written down.
struct TakeBack(Option<Arc<Trajectory>>);

impl TakeBack {
    fn sure(mut self) {
        self.0 = None;
    }
}

impl Drop for TakeBack {
    fn drop(&mut self) {
        if let Some(trajectory) = self.0.take() {
            trajectory.distrust();
        }
    }
}

/// `POST /v1/trajectories/{id}/segments`.
pub(super) async fn append(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    Body(append): Body<Append>,
) -> Result<Json<Value>, Refusal> {
    let trajectory = app.trajectory(&tenant, &id).await?;
    let segments = segments(append.segments)?;
    if segments.is_empty() {
        return Err(Refusal::field("segments", "is empty"));
    }
    let (trying, at) = (trajectory.clone(), append.at);
    let entered = to_its_end(async move {
        let mut tries = 0;
        loop {
            match appended(&app, &tenant, &trying, segments.clone(), at).await {
                // Another server was faster; where the place is not said, what it appended comes first.
                Err(Refusal::Conflict(_)) if at.is_none() && tries < TRIES => {
                    tries += 1;
                    app.trajectory(&tenant, &id).await?;
                }
                entered => return entered,
            }
        }
    })
    .await?;
    let entered: Vec<Value> = entered
        .into_iter()
        .map(|(entered, left_out)| json!({ "entered_tokens": entered, "left_out_tokens": left_out }))
        .collect();
    let mut told = described(&trajectory);
    told["appended"] = entered.into();
    Ok(Json(told))
}

async fn appended(
    app: &App,
    tenant: &Tenant,
    trajectory: &Arc<Trajectory>,
    segments: Vec<Segment>,
    at: Option<usize>,
) -> Result<Vec<(usize, usize)>, Refusal> {
    let mut written = trajectory.order.lock().await;
    let there = trajectory.segments();
    match at {
        // The same again, whose acknowledgement was lost.
        Some(at) if at < there.len() && there[at..].starts_with(&segments) => Ok(Vec::new()),
        Some(at) if at != there.len() => {
            Err(Refusal::Conflict(format!("at = {at}: {} segments are there", there.len())))
        }
        _ => enter(app, tenant, trajectory, segments, &mut written).await,
    }
}

/// `POST /v1/trajectories/{id}/fork`.
pub(super) async fn fork(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
    Body(fork): Body<Fork>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let from = app.trajectory(&tenant, &id).await?;
    let ttl_seconds = time_to_live(&app, fork.ttl_seconds)?.or(from.settings.ttl_seconds);
    let settings = Settings { ttl_seconds, ..from.settings.clone() };
    let into = app.trajectories.begin(&tenant, fork.id.as_deref(), settings)?;
    if fork.id.is_some() {
        app.is_free(&tenant, &into.id).await?;
    }
    to_its_end(async move {
        // Nothing is appended to the one while the other begins with it.
        let _held = from.order.lock().await;
        done(submit(&app, &tenant, Work::Fork { from: from.clone(), into: into.clone() })?).await?;
        let mut written = into.order.lock().await;
        app.trajectories.put(&into)?;
        match app.write_whole(&into, &into.segments()).await {
            Ok(records) => *written = records,
            Err(refusal) => {
                app.trajectories.remove(&tenant, &into.id);
                return Err(refusal);
            }
        }
        Ok((StatusCode::CREATED, Json(described(&into))))
    })
    .await
}

/// `GET /v1/trajectories`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
) -> Result<Json<Value>, Refusal> {
    let open = app.trajectories.of(&tenant);
    let Some(stored) = app.stored(&tenant).await? else {
        let data: Vec<Value> = open.iter().map(|own| described(own)).collect();
        return Ok(Json(json!({ "object": "list", "data": data })));
    };
    let told = |name: String| match open.iter().find(|own| own.id == name) {
        Some(own) => described(own),
        None => json!({ "id": name, "object": "trajectory", "opened": false }),
    };
    let data: Vec<Value> = stored.into_iter().map(told).collect();
    Ok(Json(json!({ "object": "list", "data": data })))
}

/// `GET /v1/trajectories/{id}`.
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(described(&*app.known(&tenant, &id).await?)))
}

/// `DELETE /v1/trajectories/{id}`.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    app.known(&tenant, &id).await?;
    app.forget(&tenant, &id).await?;
    Ok(Json(json!({ "id": id, "object": "trajectory", "deleted": true })))
}

/// `GET /v1/trajectories/{id}/segments`.
pub(super) async fn segments_list(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let trajectory = app.known(&tenant, &id).await?;
    Ok(Json(json!({ "object": "list", "data": trajectory.segments() })))
}

/// `GET /v1/trajectories/{id}/briefings`.
pub(super) async fn briefings(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let trajectory = app.known(&tenant, &id).await?;
    let worker = app.worker.clone();
    let shown = move || trajectory.looked().iter().map(|looked| looked.shown(&worker)).collect::<Vec<_>>();
    let shown =
        tokio::task::spawn_blocking(shown).await.map_err(|error| Refusal::Internal(error.to_string()))?;
    Ok(Json(json!({ "object": "list", "data": shown })))
}
