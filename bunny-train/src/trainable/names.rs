//! Every parameter of a model, by its name in files and with what it is for.

use bunny_core::{
    Bunny,
    nn::{self, ParameterKind, ParameterSpec, Visited, visit_parameters},
};
use bunny_weights::adapter::lora_name;
use burn::{
    module::{Module, ParamId},
    tensor::backend::Backend,
};

/// A parameter, by its name in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedParameter {
    /// What the model knows it by.
    pub id: ParamId,
    /// The published name; of an adapter's matrices, PEFT's.
    pub name: String,
    /// Which block of rows of a token table it is; 0 for all else.
    pub block: usize,
    /// The part of the model that it belongs to.
    pub part: Part,
    /// What it does; an adapter's matrices are products.
    pub kind: ParameterKind,
    /// The layer of its part that it belongs to, if it is within the layers.
    pub layer: Option<usize>,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A part of the model, which learns or not as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The projector.
    Projector,
    /// Adapters beside the language model's products.
    Lora,
    /// The language model itself.
    Language,
    /// The vision tower.
    Tower,
}

impl From<nn::Part> for Part {
    fn from(part: nn::Part) -> Self {
        match part {
            nn::Part::Projector => Self::Projector,
            nn::Part::VisionTower => Self::Tower,
            _ => Self::Language,
        }
    }
}

impl NamedParameter {
    fn of<B: Backend>(visited: Visited<'_, B>) -> Self {
        let spec = visited.spec;
        let (name, part) = match visited.lora {
            Some(matrix) => {
                let target = spec.published.strip_suffix(".weight");
                let target = target.unwrap_or(&spec.published);
                (lora_name(target, matrix), Part::Lora)
            }
            None => (spec.published.clone(), spec.part.into()),
        };
        Self {
            id: visited.id,
            name,
            block: visited.block,
            part,
            kind: spec.kind,
            layer: spec.layer,
            shape: visited.shape,
        }
    }
}

/// Every parameter of a module that `specs` describe, in the module's order.
pub fn parameters_of<B: Backend>(
    module: &impl Module<B>,
    specs: &[ParameterSpec],
) -> Vec<NamedParameter> {
    let mut found = Vec::with_capacity(specs.len());
    visit_parameters(module, specs, |visited| {
        found.push(NamedParameter::of(visited));
    });
    found
}

/// Every parameter of a Bunny, in the model's order.
pub fn parameters<B: Backend>(model: &Bunny<B>) -> Vec<NamedParameter> {
    parameters_of(model, &model.config().describe())
}
