//! Bodies of requests, which are read to their ends whether or not anybody wants them.
//!
//! A request may be refused by its head alone, and most clients look for an answer only when they have sent their
//! body. Were the connection closed before, they would learn of that, and not of what is wrong.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Request,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::EXPECT,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout_at},
};

/// A body whose rest is read and thrown away when it is dropped.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// There until it is dropped.
    body: Option<Incoming>,
    /// Whether its client sends it without being told to.
    comes_unasked: bool,
    /// When it has taken too long.
    until: Instant,
    closing: watch::Receiver<bool>,
}

/// Has the body of a request linger for `patience`, unless `closing` changes before.
pub(crate) fn lingering(
    request: Request<Incoming>,
    patience: Duration,
    closing: watch::Receiver<bool>,
) -> Request<Lingering> {
    let comes_unasked = !request.headers().contains_key(EXPECT);
    request.map(|body| Lingering {
        body: Some(body),
        comes_unasked,
        until: Instant::now() + patience,
        closing,
    })
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or(SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if self.is_end_stream() || !self.comes_unasked {
            return;
        }
        // Without a runtime there are no connections any more.
        if let (Some(body), Ok(runtime)) = (self.body.take(), Handle::try_current()) {
            let (until, mut closing) = (self.until, self.closing.clone());
            runtime.spawn(async move {
                tokio::select! {
                    _ = timeout_at(until, discard(body)) => {}
                    _ = closing.changed() => {}
                }
            });
        }
    }
}

/// Reads a body to its end, or to what is wrong with it.
async fn discard(mut body: Incoming) {
    while let Some(Ok(_)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {}
}
