//! A server from its first connection to its last.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use axum::Router;
use bunny_core::generate::{EngineOptions, Pipeline};
use burn::tensor::backend::Backend;
use tokio::{net::TcpListener as AsyncListener, runtime::Runtime, sync::Notify, time::sleep};

use crate::{
    Limits,
    desk::{Desk, Model},
    metrics::Metrics,
    routes, worker,
};

/// What keeps a server from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system refuses threads or sockets.
    #[error("cannot serve: {0}")]
    Io(#[from] io::Error),
}

/// A server that listens, and is not run yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    desk: Arc<Desk>,
    worker: JoinHandle<()>,
    stop: Arc<Notify>,
}

impl Server {
    /// Listens on `address` (port 0: any), and has `pipeline`, called `name`, answer.
    ///
    /// # Errors
    /// When the address cannot be had, or no thread.
    pub fn bind<B: Backend>(
        address: SocketAddr,
        name: &str,
        pipeline: Pipeline<B>,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        let bind = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let config = pipeline.model.config();
        let model = Model {
            name: name.into(),
            tokenizer: pipeline.tokenizer.clone(),
            image_processor: pipeline.image_processor.clone(),
            template: pipeline.template,
            end: pipeline.end_of_text(),
            context: config.decoder.max_position_embeddings,
            picture_tokens: config.vision.tokens(),
        };
        let engine = pipeline.engine(EngineOptions {
            slots: limits.slots,
            chunk: limits.chunk,
            ..EngineOptions::default()
        });
        let metrics = Arc::new(Metrics::default());
        let (commands, worker) = worker::start(engine, metrics.clone())?;
        let desk = Arc::new(Desk::new(model, limits, commands, metrics));
        Ok(Self { listener, address, desk, worker, stop: Arc::default() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server from another thread: nothing more is admitted, and what is under way ends within
    /// the time of grace.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let stop = self.stop.clone();
        move || stop.notify_one()
    }

    /// Serves until it is told to stop, by [`Server::stopper`], SIGINT or SIGTERM; a second signal ends
    /// the program at once.
    ///
    /// # Errors
    /// When the system refuses threads or sockets.
    pub fn run(self) -> Result<(), ServeError> {
        let Self { listener, desk, worker, stop, .. } = self;
        let runtime = Runtime::new()?;
        let served = runtime.block_on(async {
            let listener = AsyncListener::from_std(listener)?;
            serve(listener, routes::router(desk.clone()), desk, stop).await
        });
        // Connections that are still open are cut.
        runtime.shutdown_timeout(Duration::from_millis(200));
        // The thread has been told to stop; what it panicked of was logged.
        drop(worker.join());
        Ok(served?)
    }
}

async fn serve(
    listener: AsyncListener,
    router: Router,
    desk: Arc<Desk>,
    stop: Arc<Notify>,
) -> io::Result<()> {
    let closing = desk.clone();
    let closed = Arc::new(Notify::new());
    let told = closed.clone();
    let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
        tokio::select! {
            () = signalled() => {}
            () = stop.notified() => {}
        }
        closing.close();
        tokio::spawn(async {
            signalled().await;
            std::process::exit(1);
        });
        told.notify_one();
    });
    let ending = async {
        closed.notified().await;
        let deadline = tokio::time::Instant::now() + desk.limits.grace;
        while desk.open() > 0 && tokio::time::Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        // Who is still being answered is told that it ends.
        desk.stop();
        sleep(Duration::from_millis(200)).await;
    };
    tokio::select! {
        served = async { serving.await } => {
            desk.stop();
            served
        }
        () = ending => Ok(()),
    }
}

/// Waits for SIGINT or SIGTERM.
async fn signalled() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(mut terminate), Ok(mut interrupt)) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!("cannot wait for signals: {error}");
                std::future::pending().await
            }
        }
    }
    #[cfg(not(unix))]
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!("cannot wait for signals: {error}");
        std::future::pending().await
    }
}
