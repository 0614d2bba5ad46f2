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

use super::{InProcess, Reduce, ReduceError};

/// Buckets of fewer numbers go through main memory: that takes less than starting NCCL does.
const SMALL: usize = 4096;

/// How often a rank that waits for NCCL looks whether the others are still there.
const LOOK: Duration = Duration::from_micros(50);

/// A rank among threads of one process, each with a CUDA device of its own.
///
/// Before NCCL starts, all ranks tell each other through main memory that they are there; while it
/// runs, a rank looks whether another has stopped. So none waits for a dead one, as NCCL would.
pub struct Nccl {
    link: InProcess,
    comm: Comm,
    stream: Arc<CudaStream>,
}

// SAFETY: a communicator may be used from any thread, by one at a time. A rank is owned by one
// thread, and not `Sync`.
unsafe impl Send for Nccl {}

impl Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.stream.context().ordinal();
        f.debug_struct("Nccl")
            .field("link", &self.link)
            .field("device", &device)
            .finish()
    }
}

impl Nccl {
    /// Connects the devices of these numbers, one for each of `links`.
    ///
    /// # Errors
    /// When NCCL is not there, a device is not or is named twice, or they cannot reach each other.
    pub fn connect(
        links: Vec<InProcess>,
        ordinals: impl Iterator<Item = usize>,
    ) -> Result<Vec<Self>, ReduceError> {
        // SAFETY: loading NCCL runs its initialisers, as its first call would.
        if !unsafe { sys::is_culib_present() } {
            return Err(ReduceError::Nccl("there is no libnccl.so".into()));
        }
        let stream = |ordinal| CudaContext::new(ordinal)?.new_stream();
        let streams: Result<Vec<_>, _> = ordinals.map(stream).collect();
        let streams = streams.map_err(failed)?;
        let comms = Comm::from_devices(streams.clone()).map_err(failed)?;
        let parts = links.into_iter().zip(comms).zip(streams);
        Ok(parts
            .map(|((link, comm), stream)| Self { link, comm, stream })
            .collect())
    }

    /// Waits for all ranks, which have to bring equally long buckets.
    fn agree_on(&self, ours: usize) -> Result<(), ReduceError> {
        // A place for each rank, where the others bring nothing: the sum has every rank's own. A
        // length in two numbers, of which f32 holds each exactly.
        let mut lengths = vec![0.0; 2 * self.world()];
        lengths[2 * self.rank()] = (ours >> 20) as f32;
        lengths[2 * self.rank() + 1] = (ours & 0xF_FFFF) as f32;
        self.link.sum(&mut lengths)?;
        let lengths = lengths
            .chunks(2)
            .map(|pair| ((pair[0] as usize) << 20) + pair[1] as usize);
        match lengths.into_iter().find(|theirs| *theirs != ours) {
            Some(theirs) => Err(ReduceError::Length { ours, theirs }),
            None => Ok(()),
        }
    }
}

fn failed(error: impl Debug) -> ReduceError {
    ReduceError::Nccl(format!("{error:?}"))
}

impl Reduce for Nccl {
    fn world(&self) -> usize {
        self.link.world()
    }

    fn rank(&self) -> usize {
        self.link.rank()
    }

    fn sum(&self, bucket: &mut Vec<f32>) -> Result<(), ReduceError> {
        if bucket.len() < SMALL {
            return self.link.sum(bucket);
        }
        self.agree_on(bucket.len())?;
        let mut numbers = self.stream.clone_htod(bucket).map_err(failed)?;
        self.comm
            .all_reduce_in_place(&mut numbers, &ReduceOp::Sum)
            .map_err(failed)?;
        let done = self.stream.record_event(None).map_err(failed)?;
        while !done.try_is_complete().map_err(failed)? {
            if self.link.is_aborted() {
                return Err(ReduceError::Aborted);
            }
            thread::sleep(LOOK);
        }
        self.stream.memcpy_dtoh(&numbers, bucket).map_err(failed)?;
        self.stream.synchronize().map_err(failed)?;
        // A rank that leaves would be taken for a dead one by those that still wait for NCCL.
        self.link.sum(&mut vec![0.0])
    }

    fn abort(&self) {
        self.link.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs CUDA devices and NCCL"]
    fn every_rank_gets_the_sum() {
        let count = CudaContext::device_count().unwrap() as usize;
        let ranks = Nccl::connect(InProcess::group(count), 0..count).unwrap();
        thread::scope(|scope| {
            for rank in ranks {
                scope.spawn(move || {
                    for len in [3, SMALL, 1 << 22] {
                        let mut bucket = vec![1.0 + rank.rank() as f32; len];
                        rank.sum(&mut bucket).unwrap();
                        let sum = (count * (count + 1) / 2) as f32;
                        assert!(bucket.iter().all(|number| *number == sum));
                    }
                });
            }
        });
    }
}
