//! Servers that answer in the place of this process.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use latent_briefing::eval::Error;
use latent_briefing::eval::answers::AnswerRow;
use latent_briefing::eval::calls::{self, EpisodePlan, Logs, Servers};
use latent_briefing::eval::pipeline::{Existing, Finished};
use latent_briefing::serve::{Running, ServeConfig, Server};
use latent_briefing::session::CancelToken;

use crate::support::embedded;

fn plan(conditions: &[&str]) -> EpisodePlan {
    EpisodePlan {
        conditions: conditions.iter().map(ToString::to_string).collect(),
        logs: vec![Logs::HeldOut { tokens: (300, 500), questions: 2 }],
        episodes: 3,
        seed: 7_000,
        jobs: 3,
        ..EpisodePlan::default()
    }
}

fn server() -> (Running, String) {
    let mut config = ServeConfig::default();
    config.listen = ([127, 0, 0, 1], 0).into();
    let server = Server::start(embedded(), config).unwrap();
    let url = format!("http://{}", server.address());
    (server, url)
}

/// What is refused is told with all of `parts`.
fn says<T>(refused: Result<T, Error>, parts: &[&str]) {
    let Err(error) = refused else { panic!("{parts:?}: nothing was refused") };
    let said = error.to_string();
    assert!(parts.iter().all(|part| said.contains(part)), "{said}: {parts:?}");
}

/// An address that nobody listens on.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn asked(urls: &[String], plan: &EpisodePlan, dir: &Path) -> Result<Finished<AnswerRow>, Error> {
    let servers = Servers::new(urls, None)?.with_patience(Duration::from_millis(300));
    calls::run_on(&servers, embedded(), plan, dir, Existing::Resume, &CancelToken::new(), &|_| {})
}

/// By item and condition, without what a clock puts there.
fn content(rows: &[AnswerRow]) -> BTreeMap<(String, String), AnswerRow> {
    let timeless = |row: &AnswerRow| AnswerRow {
        brief_s: 0.0,
        prefill_s: 0.0,
        decode_s: 0.0,
        elapsed_s: 0.0,
        ..row.clone()
    };
    rows.iter().map(|row| ((row.item.clone(), row.condition.clone()), timeless(row))).collect()
}

#[test]
fn servers_give_the_rows_of_one_process_whoever_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(&["full-kv", "latent-briefing:keep=0.2", "bm25:0.3", "none"]);
    let here = dir.path().join("here");
    let here = calls::run(embedded(), &plan, &here, Existing::Refuse, &CancelToken::new(), &|_| {}).unwrap();
    let ((first, one), (second, two)) = (server(), server());
    let there = asked(&[one.clone(), nobody(), two], &plan, &dir.path().join("there")).unwrap();
    assert_eq!(there.rows.len(), 3 * 2 * 4);
    assert_eq!(content(&there.rows), content(&here.rows));

    // What is there already is not asked again, and nothing stays on a server.
    let again = asked(&[nobody()], &plan, &dir.path().join("there")).unwrap();
    assert_eq!(again.resumed, there.rows.len());
    let left =
        ureq::get(format!("{one}/v1/trajectories")).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(left.contains(r#""data":[]"#), "{left}");
    first.stop();
    second.stop();
}

#[test]
fn nobody_and_refusals_end_a_run_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = nobody();
    let error = asked(std::slice::from_ref(&nobody), &plan(&["full-kv"]), dir.path()).unwrap_err();
    assert!(matches!(&error, Error::Server { url, .. } if *url == nobody), "{error}");

    // A server that wants a key says so; that is no reason to try for two minutes.
    let mut config = ServeConfig::default();
    config.listen = ([127, 0, 0, 1], 0).into();
    let keys = dir.path().join("keys");
    latent_briefing::serve::Keys::add(&keys, "a").unwrap();
    config.keys = Some(keys);
    let server = Server::start(embedded(), config).unwrap();
    let url = format!("http://{}", server.address());
    let error =
        asked(std::slice::from_ref(&url), &plan(&["full-kv"]), &dir.path().join("keyed")).unwrap_err();
    assert!(error.to_string().contains("answered 401"), "{error}");
    server.stop();

    for (urls, said) in [
        (vec![], "want at least one"),
        (vec!["127.0.0.1:80".to_owned()], "want an address"),
        (vec![url.clone(), format!("{url}/v1")], "is there twice"),
    ] {
        says(Servers::new(&urls, None), &[said]);
    }
    let selection = plan(&["snapkv:keep=0.1"]);
    says(asked(&[url], &selection, &dir.path().join("s")), &["snapkv", "no handoff"]);
}
