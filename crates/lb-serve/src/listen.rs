//! Connections: how many, how slow a client may be, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::http::App;

/// Bytes of a request's head.
const HEAD: usize = 64 << 10;
/// Fields of it.
const FIELDS: usize = 100;
/// Before another try where the operating system has no socket left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is told to stop; then takes no more, and waits for the answers under way.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    app: Arc<App>,
    mut stop: watch::Receiver<bool>,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(app.config.body_time)
        .max_buf_size(HEAD)
        .max_headers(FIELDS);
    let places = Arc::new(Semaphore::new(app.config.connections));
    let graceful = GracefulShutdown::new();
    loop {
        // Who finds no place waits in the operating system's line.
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            _ = stop.changed() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let (Ok(place), Ok((stream, _))) = (place, accepted) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that breaks off is no fault of ours.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(app.config.drain_time) => {}
    }
}
