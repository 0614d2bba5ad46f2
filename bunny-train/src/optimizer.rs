//! AdamW and Muon with master weights in f32, whatever type the model holds what learns in.

mod adamw;
mod masters;
pub mod muon;

use std::collections::HashMap;

use bunny_core::checkpoint::Precision;
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{
        DType, Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

pub use adamw::AdamWConfig;
pub use masters::Masters;

use crate::{
    error::ReduceError,
    recipe::Optim,
    reduce::Reduce,
    step::{Gradients, Slots},
    trainable::{Rates, Trainable},
};

/// What the optimizer knows of one trainable.
#[derive(Debug, Clone)]
pub struct State<B: Backend> {
    /// The weights that small steps add up in, flat, f32.
    pub master: Tensor<B, 1>,
    /// What past gradients have left, and how many they were; absent until a first one comes.
    pub moments: Option<Moments<B>>,
    /// By which rule it steps.
    rule: Rule,
}

/// Running means of a gradient and of its square.
#[derive(Debug, Clone)]
pub struct Moments<B: Backend> {
    /// Of the gradient.
    pub first: Tensor<B, 1>,
    /// Of its square; Muon needs none.
    pub second: Option<Tensor<B, 1>>,
    /// How many gradients went in.
    pub updates: u64,
}

/// How one trainable steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// As `torch.optim.AdamW` does.
    AdamW,
    /// As `torch.optim.Muon` does with `adjust_lr_fn="match_rms_adamw"`; a matrix of this shape.
    Muon([usize; 2]),
}

impl Rule {
    fn of(optim: Optim, trainable: &Trainable) -> Self {
        match (optim, trainable.matrix_of_layer()) {
            (Optim::Muon, Some(shape)) => Self::Muon(shape),
            _ => Self::AdamW,
        }
    }
}

/// AdamW (Loshchilov and Hutter 2019) for all that learns, or for all but the matrices that Muon moves.
#[derive(Debug, Clone)]
pub struct Optimizer<B: Backend> {
    config: AdamWConfig,
    /// Muon multiplies in bf16.
    rounds: bool,
    /// In the order of the trainables.
    states: Vec<State<B>>,
}

/// Rates and factors of one step.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Of the gradient.
    scale: f64,
    rate: f64,
    /// Of what is left of a weight.
    decay: f64,
}

impl<B: Backend> Optimizer<B> {
    /// An optimizer whose master weights are the model's own. Muon multiplies in bf16 where a model of
    /// this precision does, and else in f32.
    pub fn new<A: AutodiffBackend<InnerBackend = B>>(
        optim: Optim,
        config: AdamWConfig,
        precision: Precision,
        model: &impl Module<A>,
        trainables: &[Trainable],
    ) -> Self {
        struct Masters<B: Backend> {
            slots: Slots,
            found: HashMap<usize, Tensor<B, 1>>,
        }

        impl<A: AutodiffBackend> ModuleVisitor<A> for Masters<A::InnerBackend> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
                if let Some(slot) = self.slots.get(param.id) {
                    let flat = param.val().inner().flatten::<1>(0, D - 1);
                    self.found.insert(slot, flat.cast(DType::F32));
                }
            }
        }

        let mut masters = Masters {
            slots: Slots::new(trainables),
            found: HashMap::new(),
        };
        model.visit(&mut masters);
        let states = trainables
            .iter()
            .enumerate()
            .filter_map(|(slot, trainable)| {
                Some(State {
                    master: masters.found.remove(&slot)?,
                    moments: None,
                    rule: Rule::of(optim, trainable),
                })
            });
        Self {
            config,
            rounds: precision.weights == DType::BF16,
            states: states.collect(),
        }
    }

    /// What is known of each trainable, in their order.
    pub fn states(&self) -> &[State<B>] {
        &self.states
    }

    /// The same, to be put back by a run that goes on.
    pub fn states_mut(&mut self) -> &mut [State<B>] {
        &mut self.states
    }

    /// One step along `gradients`, which are the same on every rank, `scale` times.
    ///
    /// A trainable without a gradient takes a step by its moments, as if the gradient were zero; one
    /// that has never had any stays as it is, and so does a matrix that Muon moves.
    ///
    /// # Errors
    /// When ranks share Muon's work, and another is gone.
    pub fn step(
        &mut self,
        gradients: Gradients<B>,
        scale: f64,
        rates: Rates,
        trainables: &[Trainable],
        reduce: &dyn Reduce<B>,
    ) -> Result<(), ReduceError> {
        let step_of = |trainable: &Trainable| {
            let rate = rates.of(trainable.parameter.part);
            let decay = match trainable.decayed {
                true => 1.0 - rate * self.config.weight_decay,
                false => 1.0,
            };
            Step { scale, rate, decay }
        };
        let steps: Vec<Step> = trainables.iter().map(step_of).collect();
        let mut turns = Vec::new();
        for (slot, gradient) in gradients.into_sums().enumerate() {
            let state = &mut self.states[slot];
            match (state.rule, gradient) {
                (Rule::AdamW, gradient) => state.adamw(gradient, steps[slot], &self.config),
                (Rule::Muon(shape), Some(gradient)) => turns.push(muon::Turn {
                    slot,
                    shape,
                    momentum: state.gather(gradient, scale),
                }),
                (Rule::Muon(_), None) => {}
            }
        }
        for (slot, change) in muon::directions(turns, self.rounds, reduce)? {
            self.states[slot].move_along(change, steps[slot]);
        }
        Ok(())
    }

    /// Puts the master weights into the model, in the type it holds them in.
    pub fn update<A: AutodiffBackend<InnerBackend = B>, M: Module<A>>(
        &self,
        model: M,
        slots: &Slots,
    ) -> M {
        struct Update<'a, B: Backend> {
            slots: &'a Slots,
            states: &'a [State<B>],
        }

        impl<A: AutodiffBackend> ModuleMapper<A> for Update<'_, A::InnerBackend> {
            fn map_float<const D: usize>(
                &mut self,
                param: Param<Tensor<A, D>>,
            ) -> Param<Tensor<A, D>> {
                let Some(slot) = self.slots.get(param.id) else {
                    return param;
                };
                let (id, old) = (param.id, param.into_value());
                let new = self.states[slot].master.clone();
                let new = new.reshape(old.dims()).cast(old.dtype());
                Param::initialized(id, Tensor::from_inner(new).require_grad())
            }
        }

        model.map(&mut Update {
            slots,
            states: &self.states,
        })
    }
}

impl<B: Backend> State<B> {
    /// Whether its moments have a second one.
    pub(crate) fn has_second(&self) -> bool {
        self.rule == Rule::AdamW
    }
}
