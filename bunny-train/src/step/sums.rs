//! What the micro-batches of a step add up to, on one rank and over all of them.

use burn::tensor::backend::Backend;

use super::Gradients;
use crate::{error::TrainError, reduce::Reduce};

/// The sums of a step.
pub(crate) struct Sums<B: Backend> {
    pub gradients: Gradients<B>,
    /// What the sums are to be divided by: answers, or micro-batches.
    pub weight: f64,
    pub loss: f64,
    pub answers: f64,
    pub tokens: f64,
    pub samples: f64,
}

impl<B: Backend> Sums<B> {
    /// Nothing yet, for as many tensors that learn.
    pub fn new(learners: usize) -> Self {
        Self {
            gradients: Gradients::new(learners),
            weight: 0.0,
            loss: 0.0,
            answers: 0.0,
            tokens: 0.0,
            samples: 0.0,
        }
    }

    /// The sums of all ranks; `counts` are the numbers of each tensor. Gradients travel in one
    /// bucket, behind the few numbers that go with them and a mark for each that is there.
    ///
    /// # Errors
    /// When another rank is gone.
    pub fn over_ranks(
        self,
        reduce: &dyn Reduce,
        counts: &[usize],
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        if reduce.world() == 1 {
            return Ok(self);
        }
        let (numbers, present) = self.gradients.to_bucket(counts);
        let small = [
            self.weight,
            self.loss,
            self.answers,
            self.tokens,
            self.samples,
        ];
        let mut bucket: Vec<f32> = small.iter().map(|value| *value as f32).collect();
        bucket.extend(present.iter().map(|present| f32::from(u8::from(*present))));
        bucket.extend(numbers);
        reduce.sum(&mut bucket)?;
        let (small_sums, rest) = bucket.split_at(small.len());
        let (present, numbers) = rest.split_at(counts.len());
        let present: Vec<bool> = present.iter().map(|marks| *marks > 0.0).collect();
        let [weight, loss, answers, tokens, samples] =
            std::array::from_fn(|at| f64::from(small_sums[at]));
        Ok(Self {
            gradients: Gradients::from_bucket(numbers, &present, counts, device),
            weight,
            loss,
            answers,
            tokens,
            samples,
        })
    }
}
