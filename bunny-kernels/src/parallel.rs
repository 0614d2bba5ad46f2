//! Work on the current rayon pool.

use rayon::prelude::*;

/// Runs `task(0)` to `task(tasks - 1)`, on this thread alone when there is but one: waking a pool costs more than a
/// small kernel.
pub(crate) fn for_each(tasks: usize, task: impl Fn(usize) + Send + Sync) {
    if tasks == 1 {
        task(0);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}
