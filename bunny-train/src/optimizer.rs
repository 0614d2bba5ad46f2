//! AdamW with master weights in f32, whatever type the model holds what learns in.

use std::collections::HashMap;

use bunny_core::nn::kernel::{self, AdamStep};
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{
        DType, Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

use crate::{
    gradients::{Gradients, Slots},
    names::Part,
    stage::Learner,
};

/// The constants of AdamW; the defaults are the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay of matrices, times the learning rate, a step.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        }
    }
}

/// Learning rates, of one step or at their highest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Of the language model and its adapters.
    pub language: f64,
    /// Of the projector.
    pub projector: f64,
    /// Of an unfrozen vision tower.
    pub tower: f64,
}

impl Rates {
    /// The same for all.
    pub const fn uniform(rate: f64) -> Self {
        Self {
            language: rate,
            projector: rate,
            tower: rate,
        }
    }

    /// All of them `factor` times.
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            language: factor * self.language,
            projector: factor * self.projector,
            tower: factor * self.tower,
        }
    }

    /// That of a part of the model.
    pub const fn of(self, part: Part) -> f64 {
        match part {
            Part::Language | Part::Lora => self.language,
            Part::Projector => self.projector,
            Part::Tower => self.tower,
        }
    }
}

/// What the optimizer knows of one learner.
#[derive(Debug, Clone)]
pub struct State<B: Backend> {
    /// The weights that small steps add up in, flat, f32.
    pub master: Tensor<B, 1>,
    /// Both moments, and how many updates made them; absent until a first gradient comes.
    pub moments: Option<Moments<B>>,
}

/// Running means of a gradient and of its square.
#[derive(Debug, Clone)]
pub struct Moments<B: Backend> {
    /// Of the gradient.
    pub first: Tensor<B, 1>,
    /// Of its square.
    pub second: Tensor<B, 1>,
    /// How many gradients went in.
    pub updates: u64,
}

/// AdamW (Loshchilov and Hutter 2019) as `torch.optim.AdamW` computes it.
#[derive(Debug, Clone)]
pub struct AdamW<B: Backend> {
    config: AdamWConfig,
    /// In the order of the learners.
    states: Vec<State<B>>,
}

impl<B: Backend> AdamW<B> {
    /// An optimizer whose master weights are the model's own.
    pub fn new<A: AutodiffBackend<InnerBackend = B>>(
        config: AdamWConfig,
        model: &impl Module<A>,
        slots: &Slots,
    ) -> Self {
        struct Masters<'a, B: Backend> {
            slots: &'a Slots,
            found: HashMap<usize, Tensor<B, 1>>,
        }

        impl<A: AutodiffBackend> ModuleVisitor<A> for Masters<'_, A::InnerBackend> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<A, D>>) {
                if let Some(slot) = self.slots.get(param.id) {
                    let flat = param.val().inner().flatten::<1>(0, D - 1);
                    self.found.insert(slot, flat.cast(DType::F32));
                }
            }
        }

        let mut masters = Masters {
            slots,
            found: HashMap::new(),
        };
        model.visit(&mut masters);
        let states = (0..slots.len()).filter_map(|slot| masters.found.remove(&slot));
        Self {
            config,
            states: states
                .map(|master| State {
                    master,
                    moments: None,
                })
                .collect(),
        }
    }

    /// What is known of each learner, in their order.
    pub fn states(&self) -> &[State<B>] {
        &self.states
    }

    /// The same, to be put back by a run that goes on.
    pub fn states_mut(&mut self) -> &mut [State<B>] {
        &mut self.states
    }

    /// One step along `gradients`, `scale` times.
    ///
    /// A learner without a gradient takes a step by its moments, as if the gradient were zero; one
    /// that has never had any stays as it is.
    pub fn step(
        &mut self,
        gradients: Gradients<B>,
        scale: f64,
        rates: Rates,
        learners: &[Learner],
    ) {
        let states = self.states.iter_mut().zip(learners);
        for ((state, learner), gradient) in states.zip(gradients.into_sums()) {
            let rate = rates.of(learner.parameter.part);
            let decay = match learner.decayed {
                true => self.config.weight_decay,
                false => 0.0,
            };
            state.step(gradient, scale, rate, decay, &self.config);
        }
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
    fn step(
        &mut self,
        gradient: Option<Tensor<B, 1>>,
        scale: f64,
        rate: f64,
        decay: f64,
        config: &AdamWConfig,
    ) {
        let zeros = || self.master.zeros_like();
        let Moments {
            first,
            second,
            updates,
        } = match (self.moments.take(), &gradient) {
            (None, None) => return,
            (Some(old), _) => old,
            (None, Some(_)) => Moments {
                first: zeros(),
                second: zeros(),
                updates: 0,
            },
        };
        let gradient = gradient.unwrap_or_else(zeros);
        let updates = updates + 1;
        let AdamWConfig { beta1, beta2, .. } = *config;
        let bias = |beta: f64| 1.0 - beta.powf(updates as f64);
        let step = AdamStep {
            scale,
            beta1,
            beta2,
            decay: 1.0 - rate * decay,
            rate: rate / bias(beta1),
            root: bias(beta2).sqrt().recip(),
            epsilon: config.epsilon,
        };
        let master = self.master.clone();
        let [first, second, master] = kernel::adamw(step, gradient, first, second, master);
        self.master = master;
        self.moments = Some(Moments {
            first,
            second,
            updates,
        });
    }
}
