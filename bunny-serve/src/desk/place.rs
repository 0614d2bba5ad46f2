//! A request's place among those that are answered and those that wait.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use tokio::time::{Instant, timeout_at};

use super::Desk;
use crate::wire::ApiError;

/// A place for a request's sequences, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    desk: Arc<Desk>,
    sequences: usize,
    /// Sequences that had one before, if this request has to wait for some of them.
    pub behind: Option<usize>,
    /// When the request has taken too long.
    pub deadline: Instant,
}

impl Place {
    /// One for so many sequences, unless too many have one.
    pub(super) fn take(desk: &Arc<Desk>, sequences: usize) -> Option<Self> {
        let (slots, most) = (desk.options.slots, desk.places());
        let are_free = |open: usize| Some(open + sequences).filter(|open| *open <= most);
        let before = desk.open.fetch_update(SeqCst, SeqCst, are_free).ok()?;
        Some(Self {
            desk: desk.clone(),
            sequences,
            behind: (before > 0 && before + sequences > slots).then_some(before),
            deadline: Instant::now() + desk.options.timeout,
        })
    }

    /// What is done before the request's time is over.
    ///
    /// # Errors
    /// What `work` ends with, or that it took too long.
    pub(crate) async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let done = timeout_at(self.deadline, work).await;
        done.unwrap_or_else(|_| Err(ApiError::timed_out()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.desk.open.fetch_sub(self.sequences, SeqCst);
    }
}
