//! Ranks on CUDA devices of one machine, whose tensors NCCL sums where they are.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    thread,
    time::Duration,
};

use bunny_core::ops::{CudaBuffer, cuda_buffer};
use burn::tensor::{
    DType, Tensor,
    backend::{Backend, Device as _},
};
use cudarc::{
    driver::{CudaContext, CudaStream},
    nccl::{Comm, ReduceOp, group_end, group_start, sys},
};

use super::{InProcess, Reduce, in_process::Brought, split_bucket, sum_through_memory};
use crate::error::ReduceError;

/// Fewer numbers go through main memory: that takes less than starting NCCL does.
const SMALL: usize = 4096;

/// How often a rank that waits for NCCL looks whether the others are still there.
const LOOK: Duration = Duration::from_micros(50);

/// A rank among threads of one process, each with a CUDA device of its own.
///
/// Before NCCL starts, all ranks tell each other through main memory that they are there, and what
/// they bring; while it runs, a rank looks whether another has stopped. So none waits for a dead one,
/// as NCCL would.
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

    /// Waits for all ranks, which have to bring tensors of the same lengths, and sums the numbers that
    /// go with them.
    fn agree(&self, tensors: &[Tensor<B, 1>], numbers: &mut [f64]) -> Result<(), ReduceError> {
        let lengths = tensors.iter().map(|tensor| tensor.dims()[0] as f64);
        let own = numbers.iter().copied().chain(lengths).collect();
        let all = self.link.exchange(Brought {
            numbers: own,
            ..Brought::default()
        })?;
        let few = numbers.len();
        let lengths = |brought: &Brought<B>| brought.numbers[few..].to_vec();
        let ours = lengths(&all[self.link.rank()]);
        if let Some(theirs) = all.iter().map(lengths).find(|theirs| *theirs != ours) {
            let total = |lengths: &[f64]| lengths.iter().sum::<f64>() as usize;
            return Err(ReduceError::Length {
                ours: total(&ours),
                theirs: total(&theirs),
            });
        }
        super::in_process::add_up(&all, numbers);
        Ok(())
    }

    /// Replaces tensors with their sums, which NCCL forms beside them.
    fn sum_on_device(&self, tensors: &mut [Tensor<B, 1>]) -> Result<(), ReduceError> {
        let Some(first) = tensors.first() else {
            return Ok(());
        };
        let device = first.device();
        let beside = |tensor: &Tensor<B, 1>| Tensor::empty(tensor.dims(), (&device, DType::F32));
        let sums: Vec<Tensor<B, 1>> = tensors.iter().map(beside).collect();
        // NCCL has a stream of its own: what is still to be done to these tensors is done first.
        B::sync(&device).map_err(failed)?;
        let buffers: Option<Vec<[CudaBuffer; 2]>> = tensors
            .iter()
            .zip(&sums)
            .map(|(own, sum)| Some([cuda_buffer(own)?, cuda_buffer(sum)?]))
            .collect();
        let Some(buffers) = buffers else {
            // Those of burn's fusion are no buffers yet.
            return sum_through_memory(self, tensors, &mut []);
        };
        group_start().map_err(failed)?;
        for ([from, to], tensor) in buffers.iter().zip(&*tensors) {
            let len = tensor.dims()[0];
            // SAFETY: both are buffers of so many f32 on this device, and stay until NCCL is done;
            // `leak` leaves them to whom they belong.
            let (from, mut to) = unsafe {
                (
                    self.stream.upgrade_device_ptr::<f32>(from.pointer(), len),
                    self.stream.upgrade_device_ptr::<f32>(to.pointer(), len),
                )
            };
            let started = self.comm.all_reduce(&from, &mut to, &ReduceOp::Sum);
            from.leak();
            to.leak();
            started.map_err(failed)?;
        }
        group_end().map_err(failed)?;
        let done = self.stream.record_event(None).map_err(failed)?;
        while !done.try_is_complete().map_err(failed)? {
            if self.link.is_aborted() {
                return Err(ReduceError::Aborted);
            }
            thread::sleep(LOOK);
        }
        tensors.clone_from_slice(&sums);
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
        self.link.sum_in_memory(floats, numbers)
    }

    fn sum(&self, tensors: &mut [Tensor<B, 1>], numbers: &mut [f64]) -> Result<(), ReduceError> {
        let count: usize = tensors.iter().map(|tensor| tensor.dims()[0]).sum();
        if count < SMALL {
            return sum_through_memory(self, tensors, numbers);
        }
        self.agree(tensors, numbers)?;
        let mut rest = tensors;
        while !rest.is_empty() {
            let (bucket, others) = split_bucket(rest);
            rest = others;
            self.sum_on_device(bucket)?;
        }
        // A rank that leaves would be taken for a dead one by those that still wait for NCCL.
        self.link.exchange(Brought::default()).map(drop)
    }

    fn abort(&self) {
        self.link.abort();
    }
}
