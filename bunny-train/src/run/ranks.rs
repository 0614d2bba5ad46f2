//! A stage as data-parallel ranks, one thread and one device each.

use std::thread;

use burn::tensor::backend::Backend;

use super::{Observer, Outcome};
use crate::{
    error::TrainError,
    reduce::{self, Alone, Reduce, Reduction},
};

/// Runs a stage on every device; the first rank writes what there is to write. The processor's cores
/// are divided among them: ranks that need no device of their own are the way to keep all cores busy
/// with a model whose every operation is small.
///
/// # Errors
/// Those of the first rank that has one of its own.
pub(super) fn on_ranks<B: Backend>(
    devices: &[B::Device],
    reduction: Reduction,
    observer: Observer<'_>,
    run: impl Fn(&B::Device, &dyn Reduce<B>, Observer<'_>) -> Result<Outcome, TrainError> + Sync,
) -> Result<Outcome, TrainError> {
    if let [device] = devices {
        return run(device, &Alone, observer);
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / devices.len().max(1)).max(1);
    let run = &run;
    let run_rank = |rank: Box<dyn Reduce<B>>, device: &B::Device, observer: Observer<'_>| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|_| TrainError::Worker)?;
        // A rank that has failed is dropped, which makes the others abort.
        pool.install(move || run(device, &*rank, observer))
    };
    let ranks = reduce::group::<B>(devices, reduction)?;
    let mut ranks = ranks.into_iter().zip(devices);
    thread::scope(|scope| {
        let first = ranks.next();
        let others: Vec<_> = ranks
            .map(|(rank, device)| scope.spawn(move || run_rank(rank, device, &mut |_, _| {})))
            .collect();
        let mut outcome = match first {
            Some((rank, device)) => run_rank(rank, device, observer),
            None => Err(TrainError::Worker),
        };
        // Theirs who aborted is not the error to tell.
        for other in others {
            match (
                &mut outcome,
                other.join().unwrap_or(Err(TrainError::Worker)),
            ) {
                (Ok(outcome), Ok(other)) => outcome.left_out.extend(other.left_out),
                (Ok(_) | Err(TrainError::Reduce(_)), Err(error)) => outcome = Err(error),
                (Err(_), _) => {}
            }
        }
        outcome
    })
}
