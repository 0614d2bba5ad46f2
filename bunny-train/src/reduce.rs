//! What data-parallel ranks agree on: sums over all of them.
//!
//! [`InProcess`] connects the threads of a process, whatever their devices: buckets go through main
//! memory, and are summed in the order of the ranks. `Nccl` sums on CUDA devices, in the order that
//! NCCL finds best for how they are connected.
//!
//! ```text
//! rank 0  records 0..b    ── gradients ──┐                 ┌── step
//! rank 1  records b..2b   ── gradients ──┼── sum, ordered ─┼── the same step
//! ```
//!
//! burn 0.21's `distributed` feature is not used, though it too sums by NCCL. With it the gradients'
//! backend (`Autodiff`) takes only backends that implement its collectives, and those of a CPU do
//! not, so that one binary could not have both; its gradient server averages parameter by parameter,
//! where a step here divides by the answers of all ranks; and it waits for ever for a rank that is
//! gone.

mod in_process;
#[cfg(feature = "cuda")]
mod nccl;

use std::fmt::Debug;

use burn::tensor::backend::DeviceOps;

pub use in_process::InProcess;
#[cfg(feature = "cuda")]
pub use nccl::Nccl;

/// Why ranks could not agree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReduceError {
    /// Another rank has stopped, so that there is nothing to wait for.
    #[error("another rank has stopped; its own error says why")]
    Aborted,
    /// The ranks do not bring equally long buckets.
    #[error("ranks bring buckets of {ours} and {theirs} numbers: do they train the same model?")]
    Length {
        /// Numbers in this rank's bucket.
        ours: usize,
        /// Numbers in another rank's.
        theirs: usize,
    },
    /// NCCL is not there, or it or its device has failed.
    #[error("NCCL: {0}")]
    Nccl(String),
}

/// One rank's end of what connects all of them.
///
/// A bucket is one flat run of f32. Its sum is the same on every rank, and in every run with as many
/// ranks on the same machine.
pub trait Reduce: Debug + Send {
    /// How many ranks there are.
    fn world(&self) -> usize;

    /// Which one this is, from 0.
    fn rank(&self) -> usize;

    /// Replaces `bucket` with the sum of all ranks' buckets; waits for all of them.
    ///
    /// # Errors
    /// When a rank has stopped, or buckets differ in length.
    fn sum(&self, bucket: &mut Vec<f32>) -> Result<(), ReduceError>;

    /// Tells all ranks, now and from now on, not to wait for this one.
    fn abort(&self);
}

/// A rank alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Reduce for Alone {
    fn world(&self) -> usize {
        1
    }

    fn rank(&self) -> usize {
        0
    }

    fn sum(&self, _bucket: &mut Vec<f32>) -> Result<(), ReduceError> {
        Ok(())
    }

    fn abort(&self) {}
}

/// Where buckets are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// In main memory, in the order of the ranks.
    #[default]
    Memory,
    /// On the ranks' CUDA devices, by NCCL.
    Nccl,
}

/// A rank for each of `devices`, connected with each other.
///
/// # Errors
/// With [`Reduction::Nccl`], when NCCL is not there or cannot connect the devices, each of which has
/// to be another CUDA device.
pub fn group<D: DeviceOps>(
    devices: &[D],
    reduction: Reduction,
) -> Result<Vec<Box<dyn Reduce>>, ReduceError> {
    let links = InProcess::group(devices.len());
    match reduction {
        Reduction::Memory => Ok(links.into_iter().map(boxed).collect()),
        #[cfg(feature = "cuda")]
        Reduction::Nccl => {
            let ordinals = devices.iter().map(|one| one.to_id().index_id as usize);
            let ranks = Nccl::connect(links, ordinals)?;
            Ok(ranks.into_iter().map(boxed).collect())
        }
        #[cfg(not(feature = "cuda"))]
        Reduction::Nccl => Err(ReduceError::Nccl("built without `--features cuda`".into())),
    }
}

fn boxed<R: Reduce + 'static>(rank: R) -> Box<dyn Reduce> {
    Box::new(rank)
}
