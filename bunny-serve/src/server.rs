//! A server from its first connection to its last.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    thread,
    time::Duration,
};

use bunny_core::generate::{EngineOptions, Pipeline};
use burn::tensor::backend::Backend;
use tokio::{
    net::TcpListener as AsyncListener,
    runtime::Builder,
    sync::{Notify, oneshot},
    time::timeout,
};

use crate::{
    ServerOptions, connections,
    desk::{Desk, Model},
    metrics::Metrics,
    routes,
    worker::{self, Worker},
};

/// How long those who are cut off may take to hear of it.
const FAREWELL: Duration = Duration::from_secs(1);

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
    /// Not even one conversation would fit.
    #[error(
        "{allowed} bytes are too few for keys and values: conversations take {block} and more, and those of \
         {context} positions {whole}"
    )]
    Memory {
        /// What is allowed.
        allowed: u64,
        /// The least that a conversation takes.
        block: u64,
        /// Positions of the longest.
        context: usize,
        /// What that takes.
        whole: u64,
    },
    /// The model's thread has ended by itself.
    #[error("the model's device has failed: start the server again")]
    Engine,
}

/// A server that listens, and is not run yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    cache_bytes: u64,
    desk: Arc<Desk>,
    thread: thread::JoinHandle<()>,
    gone: oneshot::Receiver<()>,
    stop: Arc<Notify>,
}

impl Server {
    /// Listens on `address` (port 0: any), and has `pipeline` answer.
    ///
    /// # Errors
    /// When the address cannot be had, or no thread, or there is no memory for a conversation.
    pub fn bind<B: Backend>(
        address: SocketAddr,
        pipeline: Pipeline<B>,
        options: ServerOptions,
    ) -> Result<Self, ServeError> {
        let bind = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let engine = pipeline.engine(EngineOptions {
            slots: options.slots,
            chunk: options.chunk,
            cache_bytes: options.cache_bytes,
            ..EngineOptions::default()
        });
        let (context, cache_bytes) = (engine.context(), engine.cache_use().allowed);
        if context == 0 {
            let context = pipeline.model.config().decoder.max_position_embeddings;
            let whole = context * engine.cache().bytes_per_position();
            return Err(ServeError::Memory {
                allowed: options.cache_bytes.unwrap_or(0),
                block: engine.cache().block_bytes() as u64,
                context,
                whole: whole as u64,
            });
        }
        let metrics = Arc::new(Metrics::default());
        let Worker {
            commands,
            thread,
            gone,
        } = worker::start(engine, metrics.clone())?;
        let config = pipeline.model.config();
        let model = Model {
            context,
            picture_tokens: config.vision.tokens(),
            longest_token: pipeline.tokenizer.longest_token(),
            ends: pipeline.ends_of_text(),
            tokenizer: pipeline.tokenizer,
            image_processor: pipeline.image_processor,
            template: pipeline.template,
        };
        Ok(Self {
            listener,
            address,
            cache_bytes,
            desk: Arc::new(Desk::new(model, options, commands, metrics)),
            thread,
            gone,
            stop: Arc::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that keys and values may take.
    pub fn cache_bytes(&self) -> u64 {
        self.cache_bytes
    }

    /// Positions that a conversation and its answer may have: the model's, or as many as there is memory for.
    pub fn context(&self) -> usize {
        self.desk.model.context
    }

    /// Stops the server from another thread: nothing more is admitted, and what is under way ends within
    /// the time of grace.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let stop = self.stop.clone();
        move || stop.notify_one()
    }

    /// Serves until [`Server::stopper`] is called.
    ///
    /// # Errors
    /// When the system refuses threads or sockets, or the model's device has failed.
    pub fn run(self) -> Result<(), ServeError> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(processors.min(4))
            .enable_all()
            .build()?;
        let Self {
            listener,
            desk,
            thread,
            gone,
            stop,
            ..
        } = self;
        let served = runtime.block_on(serve(listener, desk.clone(), stop, gone));
        desk.stop();
        // Connections that are still open are cut.
        runtime.shutdown_background();
        let ended = thread.join();
        served.and(ended.map_err(|_| ServeError::Engine))
    }
}

async fn serve(
    listener: TcpListener,
    desk: Arc<Desk>,
    stop: Arc<Notify>,
    gone: oneshot::Receiver<()>,
) -> Result<(), ServeError> {
    let listener = AsyncListener::from_std(listener)?;
    let (router, patience) = (routes::router(desk.clone()), desk.options.read_timeout);
    let mut serving = pin!(connections::serve(
        listener,
        router,
        patience,
        desk.closing()
    ));
    tokio::select! {
        () = &mut serving => return Ok(()),
        () = stop.notified() => {}
        _ = gone => return Err(ServeError::Engine),
    }
    desk.close();
    if timeout(desk.options.grace, &mut serving).await.is_ok() {
        return Ok(());
    }
    desk.stop();
    // Who is still being answered is told that it ends, if it listens.
    drop(timeout(FAREWELL, serving).await);
    Ok(())
}
