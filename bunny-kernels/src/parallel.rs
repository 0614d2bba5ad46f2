//! Work on all threads.

mod team;

use rayon::prelude::*;

/// Runs `task(0)` to `task(tasks - 1)`, on this thread alone when there is but one: waking others costs more than
/// a small kernel.
///
/// A thread of a rayon pool shares them with its pool; any other one with a team that waits awake for a moment, as
/// large as rayon's global pool. A word of an answer is some three hundred small kernels one after another: a pool that
/// goes to sleep between two of them is woken as often.
pub(crate) fn for_each(tasks: usize, task: impl Fn(usize) + Send + Sync) {
    // A tab's only thread is this one.
    if tasks == 1 || cfg!(all(target_arch = "wasm32", not(target_feature = "atomics"))) {
        return (0..tasks).for_each(task);
    }
    let in_a_pool = rayon::current_thread_index().is_some();
    if in_a_pool || !team::run(tasks, &task) {
        (0..tasks).into_par_iter().for_each(task);
    }
}
