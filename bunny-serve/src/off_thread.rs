//! Work that would hold up other requests, on threads of its own.

use std::sync::Arc;

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::wire::ApiError;

/// Runs `work` on a thread that nobody waits for.
///
/// # Errors
/// When it panics.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let done = spawn_blocking(work).await;
    done.map_err(|error| ApiError::internal(&error))
}

/// The same, when one of `permits` is free; it is given back when `work` is done, whoever has gone by then.
///
/// # Errors
/// When it panics.
pub(crate) async fn off_thread_of<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let permit = permits.clone().acquire_owned().await;
    let permit = permit.map_err(|error| ApiError::internal(&error))?;
    off_thread(move || {
        let done = work();
        drop(permit);
        done
    })
    .await
}
