//! What the micro-batches of a step add up to, on one rank and over all of them.

use burn::tensor::backend::Backend;

use super::Gradients;
use crate::{error::ReduceError, reduce::Reduce};

/// The sums of a step.
pub(crate) struct StepSums<B: Backend> {
    pub gradients: Gradients<B>,
    /// What the sums are to be divided by: answers, or micro-batches.
    pub weight: f64,
    pub loss: f64,
    pub answers: f64,
    pub tokens: f64,
    pub samples: f64,
    /// Operations, by the model's own count.
    pub flops: f64,
    /// Micro-batches are left that were not looked at, since the run was told to stop.
    pub is_cut: bool,
}

impl<B: Backend> StepSums<B> {
    /// Nothing yet, for as many tensors that learn.
    pub fn new(trainables: usize) -> Self {
        Self {
            gradients: Gradients::new(trainables),
            weight: 0.0,
            loss: 0.0,
            answers: 0.0,
            tokens: 0.0,
            samples: 0.0,
            flops: 0.0,
            is_cut: false,
        }
    }

    /// The sums of all ranks; `counts` are the numbers of each tensor. First a few numbers and which
    /// gradients are there: the projector's are not where a rank's records have no picture. Gradients of a
    /// step that any rank has cut stay as they are.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn over_ranks(
        self,
        reduce: &dyn Reduce<B>,
        counts: &[usize],
        device: &B::Device,
    ) -> Result<Self, ReduceError> {
        if reduce.world() == 1 {
            return Ok(self);
        }
        let mut numbers = vec![
            self.weight,
            self.loss,
            self.answers,
            self.tokens,
            self.samples,
            self.flops,
            f64::from(u8::from(self.is_cut)),
        ];
        let own = self.gradients.present();
        numbers.extend(own.map(|present| f64::from(u8::from(present))));
        reduce.sum(&mut [], &mut numbers)?;
        let (sums, marks) = numbers.split_at(numbers.len() - counts.len());
        let present: Vec<bool> = marks.iter().map(|mark| *mark > 0.0).collect();
        let [weight, loss, answers, tokens, samples, flops, cuts] =
            std::array::from_fn(|at| sums[at]);
        let is_cut = cuts > 0.0;
        let mut gradients = self.gradients;
        if !is_cut {
            gradients.over_ranks(&present, counts, reduce, device)?;
        }
        Ok(Self {
            gradients,
            weight,
            loss,
            answers,
            tokens,
            samples,
            flops,
            is_cut,
        })
    }
}
