//! Gradients of what learns, gathered over micro-batches in f32.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{
        DType, Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};

use crate::trainable::Learner;

/// A weighted sum of gradients, one for each learner, in the learners' order.
///
/// Sums are f32 whatever type the gradients come in. A learner that no gradient has reached has
/// none, which is not the same as zeros: it then stays as it is.
#[derive(Debug, Clone)]
pub struct Gradients<B: Backend> {
    sums: Vec<Option<Tensor<B, 1>>>,
}

/// Where the gradient of each learner goes.
#[derive(Debug, Clone)]
pub struct Slots {
    places: HashMap<ParamId, usize>,
}

impl Slots {
    /// One slot for each of `learners`.
    pub fn new(learners: &[Learner]) -> Self {
        let ids = learners.iter().map(|learner| learner.parameter.id);
        Self {
            places: ids.enumerate().map(|(at, id)| (id, at)).collect(),
        }
    }

    /// The slot of a parameter that learns.
    pub fn get(&self, id: ParamId) -> Option<usize> {
        self.places.get(&id).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing learns.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl<B: Backend> Gradients<B> {
    /// No gradient for any of `count` learners.
    pub fn new(count: usize) -> Self {
        Self {
            sums: vec![None; count],
        }
    }

    /// These sums, flat.
    pub(crate) fn from_iter(sums: impl Iterator<Item = Option<Tensor<B, 1>>>) -> Self {
        Self {
            sums: sums.collect(),
        }
    }

    /// The sum of one learner, flat.
    pub fn get(&self, slot: usize) -> Option<&Tensor<B, 1>> {
        self.sums[slot].as_ref()
    }

    /// Every sum there is.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor<B, 1>> {
        self.sums.iter().flatten()
    }

    fn add(&mut self, slot: usize, gradient: Tensor<B, 1>) {
        let sum = &mut self.sums[slot];
        *sum = Some(match sum.take() {
            Some(sum) => sum + gradient,
            None => gradient,
        });
    }

    /// The sums, one for each learner.
    pub fn into_sums(self) -> impl Iterator<Item = Option<Tensor<B, 1>>> {
        self.sums.into_iter()
    }

    /// All sums in one run of numbers, absent ones as zeros, and which are there: what ranks
    /// exchange.
    pub fn to_bucket(&self, counts: &[usize]) -> (Vec<f32>, Vec<bool>) {
        let mut bucket = Vec::with_capacity(counts.iter().sum());
        for (sum, count) in self.sums.iter().zip(counts) {
            match sum {
                Some(sum) => {
                    let data = sum.to_data();
                    bucket.extend_from_slice(data.as_slice().expect("sums are f32"));
                }
                None => bucket.resize(bucket.len() + count, 0.0),
            }
        }
        (bucket, self.sums.iter().map(Option::is_some).collect())
    }

    /// What [`to_bucket`](Self::to_bucket) made, back on the device.
    pub fn from_bucket(
        bucket: &[f32],
        present: &[bool],
        counts: &[usize],
        device: &B::Device,
    ) -> Self {
        let mut rest = bucket;
        let sums = present.iter().zip(counts).map(|(&present, &count)| {
            let (own, others) = rest.split_at(count);
            rest = others;
            present.then(|| {
                Tensor::from_data(TensorData::new(own.to_vec(), [count]), (device, DType::F32))
            })
        });
        Self {
            sums: sums.collect(),
        }
    }
}

/// Moves the gradients of a module's learners into their sums, `weight` times.
pub fn collect<B: AutodiffBackend, M: Module<B>>(
    module: &M,
    gradients: &mut B::Gradients,
    weight: f64,
    slots: &Slots,
    sums: &mut Gradients<B::InnerBackend>,
) {
    struct Collector<'a, B: AutodiffBackend> {
        gradients: &'a mut B::Gradients,
        weight: f64,
        slots: &'a Slots,
        sums: &'a mut Gradients<B::InnerBackend>,
    }

    impl<B: AutodiffBackend> ModuleVisitor<B> for Collector<'_, B> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let Some(slot) = self.slots.get(param.id) else {
                return;
            };
            if let Some(gradient) = param.val().grad_remove(self.gradients) {
                let flat = gradient.flatten::<1>(0, D - 1).cast(DType::F32);
                let flat = match self.weight {
                    1.0 => flat,
                    weight => flat.mul_scalar(weight),
                };
                self.sums.add(slot, flat);
            }
        }
    }

    module.visit(&mut Collector {
        gradients,
        weight,
        slots,
        sums,
    });
}

/// Gradients of everything behind `output`, given the gradient of `output`: the link between a
/// part of a computation whose graph was kept and one that was done without.
pub fn pull_back<B: AutodiffBackend, const D: usize>(
    output: Tensor<B, D>,
    gradient: Tensor<B::InnerBackend, D>,
) -> B::Gradients {
    // The derivative of this sum in `output` is `gradient`; the sum itself is of no interest.
    (output * Tensor::from_inner(gradient)).sum().backward()
}
