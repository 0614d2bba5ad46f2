//! Connections: each on a task of its own, closed when the server is, or when its client does not say what
//! it wants.

use std::{pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep,
};

/// How long nobody is taken in after the system could not.
const RECOVERY: Duration = Duration::from_secs(1);

/// Takes connections until `closing` is notified, and returns when all of them have ended; dropped, it cuts
/// them. A connection on which no head of a request comes for `patience` is closed.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    patience: Duration,
    closing: &Notify,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    let (close, closed) = watch::channel(());
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.join_next() => continue,
            () = closing.notified() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                open.spawn(connection(
                    http.clone(),
                    stream,
                    router.clone(),
                    closed.clone(),
                ));
            }
            Err(error) => {
                // Out of files or memory, or a client that has left already.
                tracing::warn!("a connection could not be taken: {error}");
                tokio::select! {
                    () = sleep(RECOVERY) => {}
                    () = closing.notified() => break,
                }
            }
        }
    }
    drop(listener);
    close.send_replace(());
    while open.join_next().await.is_some() {}
}

async fn connection(
    http: http1::Builder,
    stream: TcpStream,
    router: Router,
    mut closed: watch::Receiver<()>,
) {
    // A token is sent when it comes, not when more have come.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("{error}");
    }
    let service = TowerToHyperService::new(router);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        _ = closed.changed() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection broke: {error}");
    }
}
