//! AdamW and Muon with master weights in f32, whatever type the model holds what learns in.

pub mod muon;

use std::collections::HashMap;

use bunny_core::{
    checkpoint::Precision,
    nn::kernel::{self, AdamStep},
};
use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{
        DType, Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    reduce::{Reduce, ReduceError},
    step::{Gradients, Slots},
    trainable::{Learner, Part},
};

/// What turns gradients into steps; transformers' `optim`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optim {
    /// AdamW for all that learns.
    #[default]
    #[serde(alias = "adamw_torch")]
    Adamw,
    /// Muon for the matrices of layers and projector, AdamW for all else.
    Muon,
}

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

/// How one learner steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// As `torch.optim.AdamW` does.
    AdamW,
    /// As `torch.optim.Muon` does with `adjust_lr_fn="match_rms_adamw"`; a matrix of this shape.
    Muon([usize; 2]),
}

impl Rule {
    fn of(optim: Optim, learner: &Learner) -> Self {
        match (optim, learner.matrix_of_layer()) {
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
    /// In the order of the learners.
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
        learners: &[Learner],
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
            slots: Slots::new(learners),
            found: HashMap::new(),
        };
        model.visit(&mut masters);
        let states = learners.iter().enumerate().filter_map(|(slot, learner)| {
            Some(State {
                master: masters.found.remove(&slot)?,
                moments: None,
                rule: Rule::of(optim, learner),
            })
        });
        Self {
            config,
            rounds: precision.weights == DType::BF16,
            states: states.collect(),
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

    /// One step along `gradients`, which are the same on every rank, `scale` times.
    ///
    /// A learner without a gradient takes a step by its moments, as if the gradient were zero; one
    /// that has never had any stays as it is, and so does a matrix that Muon moves.
    ///
    /// # Errors
    /// When ranks share Muon's work, and another is gone.
    pub fn step(
        &mut self,
        gradients: Gradients<B>,
        scale: f64,
        rates: Rates,
        learners: &[Learner],
        reduce: &dyn Reduce,
    ) -> Result<(), ReduceError> {
        let step_of = |learner: &Learner| {
            let rate = rates.of(learner.parameter.part);
            let decay = match learner.decayed {
                true => 1.0 - rate * self.config.weight_decay,
                false => 1.0,
            };
            Step { scale, rate, decay }
        };
        let steps: Vec<Step> = learners.iter().map(step_of).collect();
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

    fn adamw(&mut self, gradient: Option<Tensor<B, 1>>, step: Step, config: &AdamWConfig) {
        let zeros = || self.master.zeros_like();
        let (first, second, updates) = match (self.moments.take(), &gradient) {
            (None, None) => return,
            (None, Some(_)) => (zeros(), None, 0),
            (Some(old), _) => (old.first, old.second, old.updates),
        };
        let second = second.unwrap_or_else(zeros);
        let gradient = gradient.unwrap_or_else(zeros);
        let updates = updates + 1;
        let AdamWConfig { beta1, beta2, .. } = *config;
        let bias = |beta: f64| 1.0 - beta.powf(updates as f64);
        let step = AdamStep {
            scale: step.scale,
            beta1,
            beta2,
            decay: step.decay,
            rate: step.rate / bias(beta1),
            root: bias(beta2).sqrt().recip(),
            epsilon: config.epsilon,
        };
        let master = self.master.clone();
        let [first, second, master] = kernel::adamw(step, gradient, first, second, master);
        self.master = master;
        self.moments = Some(Moments {
            first,
            second: Some(second),
            updates,
        });
    }

    /// Takes a gradient, `scale` times, into the momentum, and gives Nesterov's: where the same gradient
    /// would take it once more.
    fn gather(&mut self, gradient: Tensor<B, 1>, scale: f64) -> Tensor<B, 1> {
        let share = gradient * (scale * (1.0 - muon::MOMENTUM));
        let (first, updates) = match self.moments.take() {
            Some(old) => (old.first * muon::MOMENTUM + share.clone(), old.updates),
            None => (share.clone(), 0),
        };
        self.moments = Some(Moments {
            first: first.clone(),
            second: None,
            updates: updates + 1,
        });
        first * muon::MOMENTUM + share
    }

    fn move_along(&mut self, direction: Tensor<B, 1>, step: Step) {
        if let Rule::Muon(shape) = self.rule {
            let rate = step.rate * muon::rate_factor(shape);
            self.master = self.master.clone() * step.decay - direction * rate;
        }
    }
}
