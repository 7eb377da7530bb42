//! Cancelling and deadlines.

use std::thread;
use std::time::{Duration, Instant};

use latent_briefing::orchestrate::Error;
use latent_briefing::orchestrate::api::{Connection, Retries};
use latent_briefing::session::CancelToken;

use super::{CASES, TEXT, ask, ask_with, quick};
use crate::support::api_server::{ApiServer, How, Reply};

/// Servers here would keep a client for a minute and more; nothing that stops is that late.
const LATE: Duration = Duration::from_secs(10);

fn silences() -> [How; 3] {
    [How::Silent, How::Mute, How::Drip(Duration::from_millis(200))]
}

#[test]
fn a_turn_under_way_is_called_off() {
    for (api, streaming) in CASES {
        for how in silences() {
            let good = api.good(streaming);
            let server = ApiServer::start([good.clone().how(how), good]);
            let mut client = api.client(&server.url(), quick(streaming));
            let cancel = CancelToken::new();
            let (other, begin) = (cancel.clone(), Instant::now());
            let stopper = thread::spawn(move || {
                thread::sleep(Duration::from_millis(60));
                other.cancel();
            });
            let outcome = ask_with(&mut *client, None, &cancel);
            assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
            assert!(begin.elapsed() < LATE);
            stopper.join().unwrap();
            assert!(server.was_hung_up_on(LATE), "the request is not left behind: {how:?}");
            // The client is as good as new, and nothing is under way beside its next request.
            assert_eq!(ask(&mut *client).unwrap().text, TEXT);
            assert_eq!(server.requests().len(), 2);
        }
    }
}

#[test]
fn a_deadline_ends_a_slow_reply() {
    for (api, streaming) in CASES {
        for how in silences() {
            let server = ApiServer::start([api.good(streaming).how(how)]);
            let mut client = api.client(&server.url(), quick(streaming));
            let begin = Instant::now();
            let limit = Duration::from_millis(100);
            let outcome = ask_with(&mut *client, Some(limit), &CancelToken::new());
            let Err(Error::Timeout { limit: named, .. }) = outcome else { panic!("{outcome:?}") };
            assert!(named <= limit && begin.elapsed() >= named && begin.elapsed() < LATE);
            assert!(server.was_hung_up_on(LATE));
        }
    }
}

#[test]
fn pauses_end_with_the_token_and_are_not_begun_past_the_deadline() {
    let minute = Duration::from_mins(1);
    let retries = Retries { count: 5, first_pause: minute, longest_pause: 2 * minute };
    for (api, streaming) in CASES {
        let connection = Connection { retries, ..quick(streaming) };
        for busy in [Reply::json(500, ""), Reply::json(429, "").header("retry-after", "90")] {
            let server = ApiServer::start(vec![busy; 3]);
            let mut client = api.client(&server.url(), connection);
            let begin = Instant::now();
            let cancel = CancelToken::new();
            let other = cancel.clone();
            let stopper = thread::spawn(move || {
                thread::sleep(Duration::from_millis(60));
                other.cancel();
            });
            assert!(matches!(ask_with(&mut *client, None, &cancel), Err(Error::Cancelled)));
            stopper.join().unwrap();
            let outcome = ask_with(&mut *client, Some(Duration::from_secs(20)), &CancelToken::new());
            assert!(matches!(outcome, Err(Error::Timeout { .. })), "{outcome:?}");
            assert!(begin.elapsed() < LATE);
            assert_eq!(server.requests().len(), 2);
        }
    }
}

#[test]
fn what_is_over_before_it_begins_sends_nothing() {
    for (api, streaming) in CASES {
        let server = ApiServer::start([api.good(streaming)]);
        let mut client = api.client(&server.url(), quick(streaming));
        let cancel = CancelToken::new();
        let outcome = ask_with(&mut *client, Some(Duration::ZERO), &cancel);
        assert!(matches!(outcome, Err(Error::Timeout { .. })), "{outcome:?}");
        cancel.cancel();
        assert!(matches!(ask_with(&mut *client, None, &cancel), Err(Error::Cancelled)));
        assert!(server.requests().is_empty());
    }
}
