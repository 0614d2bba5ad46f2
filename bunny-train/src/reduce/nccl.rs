//! Ranks on CUDA devices of one machine, whose large buckets NCCL sums.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    thread,
    time::Duration,
};

use cudarc::{
    driver::{CudaContext, CudaStream},
    nccl::{Comm, ReduceOp, sys},
};

use burn::tensor::backend::{Backend, Device as _};

use super::{InProcess, Reduce, in_process::Brought};
use crate::error::ReduceError;

/// Buckets of fewer numbers go through main memory: that takes less than starting NCCL does.
const SMALL: usize = 4096;

/// How often a rank that waits for NCCL looks whether the others are still there.
const LOOK: Duration = Duration::from_micros(50);

/// A rank among threads of one process, each with a CUDA device of its own.
///
/// Before NCCL starts, all ranks tell each other through main memory that they are there; while it
/// runs, a rank looks whether another has stopped. So none waits for a dead one, as NCCL would.
pub struct Nccl<B: Backend> {
    link: InProcess<B>,
    comm: Comm,
    stream: Arc<CudaStream>,
}

// SAFETY: a communicator may be used from any thread, by one at a time. A rank is owned by one
// thread, and not `Sync`.
unsafe impl<B: Backend> Send for Nccl<B> {}

impl<B: Backend> Debug for Nccl<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.stream.context().ordinal();
        f.debug_struct("Nccl")
            .field("link", &self.link)
            .field("device", &device)
            .finish()
    }
}

impl<B: Backend> Nccl<B> {
    /// Connects `devices`, one for each of `links`.
    ///
    /// # Errors
    /// When NCCL is not there, a device is no CUDA device or is named twice, or they cannot reach each
    /// other.
    pub fn connect(
        links: Vec<InProcess<B>>,
        devices: &[B::Device],
    ) -> Result<Vec<Self>, ReduceError> {
        // SAFETY: loading NCCL runs its initialisers, as its first call would.
        if !unsafe { sys::is_culib_present() } {
            return Err(ReduceError::Nccl("there is no libnccl.so".into()));
        }
        let stream =
            |device: &B::Device| CudaContext::new(device.to_id().index_id as usize)?.new_stream();
        let streams: Result<Vec<_>, _> = devices.iter().map(stream).collect();
        let streams = streams.map_err(failed)?;
        let comms = Comm::from_devices(streams.clone()).map_err(failed)?;
        let parts = links.into_iter().zip(comms).zip(streams);
        Ok(parts
            .map(|((link, comm), stream)| Self { link, comm, stream })
            .collect())
    }

    /// Waits for all ranks, which have to bring equally long buckets, and sums the numbers that go
    /// with them.
    fn agree_on(&self, ours: usize, numbers: &mut [f64]) -> Result<(), ReduceError> {
        let own = numbers.iter().copied().chain([ours as f64]).collect();
        let all = self.link.exchange(Brought {
            numbers: own,
            ..Brought::default()
        })?;
        let lengths = all
            .iter()
            .map(|brought| brought.numbers[numbers.len()] as usize);
        if let Some(theirs) = lengths.into_iter().find(|theirs| *theirs != ours) {
            return Err(ReduceError::Length { ours, theirs });
        }
        super::in_process::add_up(&all, numbers);
        Ok(())
    }
}

fn failed(error: impl Debug) -> ReduceError {
    ReduceError::Nccl(format!("{error:?}"))
}

impl<B: Backend> Reduce<B> for Nccl<B> {
    fn world(&self) -> usize {
        self.link.world()
    }

    fn rank(&self) -> usize {
        self.link.rank()
    }

    fn sum_in_memory(&self, floats: &mut Vec<f32>, numbers: &mut [f64]) -> Result<(), ReduceError> {
        if floats.len() < SMALL {
            return self.link.sum_in_memory(floats, numbers);
        }
        self.agree_on(floats.len(), numbers)?;
        let mut sums = self.stream.clone_htod(floats).map_err(failed)?;
        self.comm
            .all_reduce_in_place(&mut sums, &ReduceOp::Sum)
            .map_err(failed)?;
        let done = self.stream.record_event(None).map_err(failed)?;
        while !done.try_is_complete().map_err(failed)? {
            if self.link.is_aborted() {
                return Err(ReduceError::Aborted);
            }
            thread::sleep(LOOK);
        }
        self.stream.memcpy_dtoh(&sums, floats).map_err(failed)?;
        self.stream.synchronize().map_err(failed)?;
        // A rank that leaves would be taken for a dead one by those that still wait for NCCL.
        self.link.exchange(Brought::default()).map(drop)
    }

    fn abort(&self) {
        self.link.abort();
    }
}
