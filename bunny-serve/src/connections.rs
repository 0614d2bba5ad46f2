//! Connections: each on a task of its own, closed when the server is, or when its client does not say what
//! it wants.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use crate::lingering::lingering;

/// How long nobody is taken in after the system could not.
const RECOVERY: Duration = Duration::from_secs(1);

/// Takes connections until `closing` changes, and returns when all of them have ended; dropped, it cuts
/// them. A connection on which no head of a request comes for `patience` is closed.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Duration,
    mut closing: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
            _ = closing.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                open.spawn(connection(
                    http.clone(),
                    stream,
                    router.clone(),
                    patience,
                    closing.clone(),
                ));
            }
            Err(error) => {
                // Out of files or memory, or a client that has left already.
                tracing::warn!("a connection could not be taken: {error}");
                tokio::select! {
                    () = sleep(RECOVERY) => {}
                    _ = closing.changed() => break,
                }
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn connection(
    http: http1::Builder,
    stream: TcpStream,
    router: Router,
    patience: Duration,
    mut closing: watch::Receiver<bool>,
) {
    // A token is sent when it comes, not when more have come.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("{error}");
    }
    let (router, closes) = (TowerToHyperService::new(router), closing.clone());
    let was_asked = AtomicBool::new(false);
    let heard = &was_asked;
    let service = service_fn(move |request: Request<Incoming>| {
        heard.store(true, Relaxed);
        router.call(lingering(request, patience, closes.clone()))
    });
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        _ = closing.changed() => {
            // hyper would wait for the rest of a first head.
            if !was_asked.load(Relaxed) {
                return;
            }
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection broke: {error}");
    }
}
