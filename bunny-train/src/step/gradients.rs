//! Gradients of what learns, gathered over micro-batches in f32.

use std::collections::HashMap;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{
        DType, Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

use crate::{error::ReduceError, reduce::Reduce, trainable::Trainable};

/// A weighted sum of gradients, one for each trainable, in the trainables' order.
///
/// Sums are f32 whatever type the gradients come in. A trainable that no gradient has reached has
/// none, which is not the same as zeros: it then stays as it is.
#[derive(Debug, Clone)]
pub struct Gradients<B: Backend> {
    sums: Vec<Option<Tensor<B, 1>>>,
}

/// Where the gradient of each trainable goes.
#[derive(Debug, Clone)]
pub struct Slots {
    places: HashMap<ParamId, usize>,
}

impl Slots {
    /// One slot for each of `trainables`.
    pub fn new(trainables: &[Trainable]) -> Self {
        let ids = trainables.iter().map(|trainable| trainable.parameter.id);
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
    /// No gradient for any of `count` trainables.
    pub fn new(count: usize) -> Self {
        Self {
            sums: vec![None; count],
        }
    }

    /// The sum of one trainable, flat.
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

    /// The sums, one for each trainable.
    pub fn into_sums(self) -> impl Iterator<Item = Option<Tensor<B, 1>>> {
        self.sums.into_iter()
    }

    /// Which gradients are there.
    pub(super) fn present(&self) -> impl Iterator<Item = bool> {
        self.sums.iter().map(Option::is_some)
    }

    /// Replaces gradients with their sums over all ranks: those that `present` on any of them, and
    /// zeros of `counts` numbers where this one has none.
    ///
    /// # Errors
    /// When another rank is gone.
    pub(super) fn over_ranks(
        &mut self,
        present: &[bool],
        counts: &[usize],
        reduce: &dyn Reduce<B>,
        device: &B::Device,
    ) -> Result<(), ReduceError> {
        let there = present.iter().zip(counts).zip(&mut self.sums);
        let (slots, mut tensors): (Vec<_>, Vec<_>) = there
            .filter(|((present, _), _)| **present)
            .map(|((_, count), slot)| {
                let own = slot.take();
                let zeros = || Tensor::zeros([*count], (device, DType::F32));
                (slot, own.unwrap_or_else(zeros))
            })
            .unzip();
        reduce.sum(&mut tensors, &mut [])?;
        for (slot, sum) in slots.into_iter().zip(tensors) {
            *slot = Some(sum);
        }
        Ok(())
    }
}

/// Moves the gradients of a module's trainables into their sums, `weight` times.
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

/// Gradients of everything behind `output`, given the gradient of `output` (a vector-Jacobian product):
/// the link between a part of a computation whose graph was kept and one that was done without.
pub fn backward_from<B: AutodiffBackend, const D: usize>(
    output: Tensor<B, D>,
    gradient: Tensor<B::InnerBackend, D>,
) -> B::Gradients {
    // The derivative of this sum in `output` is `gradient`; the sum itself is of no interest.
    (output * Tensor::from_inner(gradient)).sum().backward()
}
