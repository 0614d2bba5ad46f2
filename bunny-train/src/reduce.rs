//! What data-parallel ranks agree on: sums over all of them.
//!
//! Tensors are summed where they are if they can be: on the device that the threads of a process share
//! ([`InProcess`]), or by NCCL over several CUDA devices (`Nccl`). Else they go through main memory.
//! In process and in memory the ranks are added in their order, so that a sum has the same bits in
//! every run; NCCL adds in the order that it finds best for how the devices are connected.
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
mod rendezvous;

use std::fmt::Debug;

use burn::tensor::{DType, Tensor, TensorData, Transaction, backend::Backend};

pub use in_process::InProcess;
#[cfg(feature = "cuda")]
pub use nccl::Nccl;

use crate::error::ReduceError;

/// One rank's end of what connects all of them.
///
/// Sums are the same on every rank, and in every run with as many ranks on the same machine.
pub trait Reduce<B: Backend>: Debug + Send {
    /// How many ranks there are.
    fn world(&self) -> usize;

    /// Which one this is, from 0.
    fn rank(&self) -> usize;

    /// Replaces numbers in main memory with their sums over all ranks; waits for all of them.
    ///
    /// # Errors
    /// When a rank has stopped, or ranks do not bring equally many numbers.
    fn sum_in_memory(&self, floats: &mut Vec<f32>, numbers: &mut [f64]) -> Result<(), ReduceError>;

    /// Replaces flat f32 tensors and a few numbers with their sums over all ranks; waits for all of
    /// them. Unless a rank knows better, tensors go through main memory, some of them at a time.
    ///
    /// # Errors
    /// As [`sum_in_memory`](Self::sum_in_memory).
    fn sum(&self, tensors: &mut [Tensor<B, 1>], numbers: &mut [f64]) -> Result<(), ReduceError> {
        sum_through_memory(self, tensors, numbers)
    }

    /// Tells all ranks, now and from now on, not to wait for this one.
    fn abort(&self);
}

/// A rank alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl<B: Backend> Reduce<B> for Alone {
    fn world(&self) -> usize {
        1
    }

    fn rank(&self) -> usize {
        0
    }

    fn sum_in_memory(&self, _: &mut Vec<f32>, _: &mut [f64]) -> Result<(), ReduceError> {
        Ok(())
    }

    fn sum(&self, _: &mut [Tensor<B, 1>], _: &mut [f64]) -> Result<(), ReduceError> {
        Ok(())
    }

    fn abort(&self) {}
}

/// Where the tensors of several ranks are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reduction {
    /// On the device that the ranks share, or else in main memory, in the order of the ranks.
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
pub fn group<B: Backend>(
    devices: &[B::Device],
    reduction: Reduction,
) -> Result<Vec<Box<dyn Reduce<B>>>, ReduceError> {
    let links = InProcess::<B>::group(devices);
    match reduction {
        Reduction::Memory => Ok(links.into_iter().map(boxed).collect()),
        #[cfg(feature = "cuda")]
        Reduction::Nccl => Ok(Nccl::connect(links, devices)?
            .into_iter()
            .map(boxed)
            .collect()),
        #[cfg(not(feature = "cuda"))]
        Reduction::Nccl => Err(ReduceError::Nccl("built without `--features cuda`".into())),
    }
}

fn boxed<B: Backend, R: Reduce<B> + 'static>(rank: R) -> Box<dyn Reduce<B>> {
    Box::new(rank)
}

/// Numbers of tensors that are on their way at a time: 64 MiB.
const BUCKET: usize = 16 << 20;

/// The first of `tensors` that make a bucket, one at least, and the others.
fn split_bucket<B: Backend>(
    tensors: &mut [Tensor<B, 1>],
) -> (&mut [Tensor<B, 1>], &mut [Tensor<B, 1>]) {
    let mut numbers = 0;
    let fits = tensors.iter().take_while(|tensor| {
        let is_first = numbers == 0;
        numbers += tensor.dims()[0];
        is_first || numbers <= BUCKET
    });
    let count = fits.count();
    tensors.split_at_mut(count)
}

/// [`Reduce::sum`] of tensors that are read back and put on the device again.
fn sum_through_memory<B: Backend, R: Reduce<B> + ?Sized>(
    rank: &R,
    tensors: &mut [Tensor<B, 1>],
    numbers: &mut [f64],
) -> Result<(), ReduceError> {
    rank.sum_in_memory(&mut Vec::new(), numbers)?;
    let mut rest = tensors;
    while !rest.is_empty() {
        let (bucket, others) = split_bucket(rest);
        rest = others;
        let mut reading = Transaction::default();
        for tensor in &*bucket {
            reading = reading.register(tensor.clone());
        }
        let mut floats = Vec::new();
        for data in reading.execute() {
            floats.extend_from_slice(data.as_slice::<f32>().expect("sums are f32"));
        }
        rank.sum_in_memory(&mut floats, &mut [])?;
        let mut floats = &*floats;
        for tensor in bucket {
            let (own, others) = floats.split_at(tensor.dims()[0]);
            floats = others;
            let data = TensorData::new(own.to_vec(), [own.len()]);
            *tensor = Tensor::from_data(data, (&tensor.device(), DType::F32));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use burn_flex::Flex;

    use super::*;

    /// A rank that only knows of main memory.
    #[derive(Debug)]
    struct Plain(InProcess<Flex>);

    impl Reduce<Flex> for Plain {
        fn world(&self) -> usize {
            self.0.world()
        }

        fn rank(&self) -> usize {
            self.0.rank()
        }

        fn sum_in_memory(
            &self,
            floats: &mut Vec<f32>,
            numbers: &mut [f64],
        ) -> Result<(), ReduceError> {
            self.0.sum_in_memory(floats, numbers)
        }

        fn abort(&self) {
            self.0.abort();
        }
    }

    /// What each of three ranks brings: in f32 the order of a sum shows in it.
    fn brought(rank: usize) -> Vec<Vec<f32>> {
        let large = [1e8f32, 1.0, -1e8][rank];
        vec![vec![large, 0.5], vec![rank as f32; 5], vec![large; 3]]
    }

    fn sums(rank: &dyn Reduce<Flex>) -> (Vec<Vec<f32>>, f64) {
        let device = Default::default();
        let mut tensors: Vec<Tensor<Flex, 1>> = brought(rank.rank())
            .iter()
            .map(|values| Tensor::from_floats(&**values, &device))
            .collect();
        // More than an f32 holds.
        let mut numbers = [f64::from(1 << 30) + rank.rank() as f64];
        rank.sum(&mut tensors, &mut numbers).unwrap();
        let read = |tensor: &Tensor<Flex, 1>| tensor.to_data().iter().collect();
        (tensors.iter().map(read).collect(), numbers[0])
    }

    #[test]
    fn tensors_on_one_device_and_through_memory_have_the_same_sums_in_the_order_of_ranks() {
        let large = 1e8f32 + 1.0 - 1e8;
        let expected = vec![vec![large, 1.5], vec![3.0; 5], vec![large; 3]];
        let numbers = 3.0 * f64::from(1 << 30) + 3.0;
        let ranks = InProcess::group(&[Default::default(); 3]);
        thread::scope(|scope| {
            for rank in ranks {
                let expected = &expected;
                scope.spawn(move || {
                    assert_eq!(sums(&rank), (expected.clone(), numbers));
                    let plain = Plain(rank);
                    assert_eq!(sums(&plain), (expected.clone(), numbers));
                    // Nobody may leave while others still take the last sum home.
                    plain.sum(&mut [], &mut [0.0]).unwrap();
                });
            }
        });
    }

    #[test]
    fn a_bucket_has_one_tensor_at_least_and_else_no_more_than_fit() {
        let device = Default::default();
        let tensor = |len: usize| Tensor::<Flex, 1>::zeros([len], &device);
        let mut tensors = [tensor(BUCKET + 1), tensor(3), tensor(BUCKET - 3), tensor(1)];
        let mut rest = &mut tensors[..];
        let mut counts = Vec::new();
        while !rest.is_empty() {
            let (bucket, others) = split_bucket(rest);
            counts.push(bucket.len());
            rest = others;
        }
        assert_eq!(counts, [1, 2, 1]);
    }
}
