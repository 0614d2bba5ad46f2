//! What learns in a stage of training, and at which rates.

use bunny_core::{
    Bunny,
    checkpoint::Precision,
    model::Learning,
    nn::{ParameterKind, WeightFormat},
};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Tensor, backend::AutodiffBackend},
};

use super::{NamedParameter, Part, parameters};

/// Which parts of the model learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrainableParts {
    /// The projector.
    pub projector: bool,
    /// The adapters beside the language model's products.
    pub lora: bool,
    /// The language model itself: products, norms, embedding and head.
    pub language: bool,
    /// The vision tower.
    pub tower: bool,
}

impl TrainableParts {
    /// Pre-training: the projector alone.
    pub const PRETRAIN: Self = Self {
        projector: true,
        lora: false,
        language: false,
        tower: false,
    };

    /// Fine-tuning as the paper does it: adapters and projector.
    pub const LORA: Self = Self {
        lora: true,
        ..Self::PRETRAIN
    };

    /// Fine-tuning of the whole language model and the projector.
    pub const FULL: Self = Self {
        language: true,
        ..Self::PRETRAIN
    };

    /// Whether `part` learns.
    pub fn has(&self, part: Part) -> bool {
        match part {
            Part::Projector => self.projector,
            Part::Lora => self.lora,
            Part::Language => self.language,
            Part::Tower => self.tower,
        }
    }

    /// The same, for what the way back costs.
    pub fn learning(&self) -> Learning {
        Learning {
            tower: self.tower,
            projector: self.projector,
            language_model: self.language,
        }
    }

    /// Whether nothing learns.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether anything learns that pictures go through before the decoder.
    pub fn before_decoder(&self) -> bool {
        self.projector || self.tower
    }
}

/// A parameter that learns.
#[derive(Debug, Clone, PartialEq)]
pub struct Trainable {
    /// Which one.
    pub parameter: NamedParameter,
    /// It is decayed: matrices are, biases and norms are not.
    pub decayed: bool,
}

impl Trainable {
    /// The name under which its state is kept: the published one, with the block of a token table
    /// that is held in several.
    pub fn key(&self) -> String {
        match self.parameter.block {
            0 => self.parameter.name.clone(),
            block => format!("{}.block{block}", self.parameter.name),
        }
    }

    /// The shape of a matrix within the layers or the projector: what takes vectors to vectors, and
    /// neither a table nor a factor of an adapter.
    pub fn matrix_of_layer(&self) -> Option<[usize; 2]> {
        let NamedParameter {
            part, kind, layer, ..
        } = &self.parameter;
        let inside = match part {
            Part::Projector => true,
            Part::Lora => false,
            Part::Language | Part::Tower => layer.is_some(),
        };
        let shape = self.parameter.shape.as_slice().try_into().ok();
        shape.filter(|_| inside && *kind == ParameterKind::Product)
    }

    /// How many numbers it has.
    pub fn count(&self) -> usize {
        self.parameter.shape.iter().product()
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

/// Lets `parts` learn and freezes all else.
pub fn unfreeze_parts<B: AutodiffBackend>(
    model: Bunny<B>,
    parts: TrainableParts,
) -> (Bunny<B>, Vec<Trainable>) {
    let mut all = parameters(&model);
    all.retain(|parameter| parts.has(parameter.part));
    let precision = model.precision();
    unfreeze(model, all, precision)
}

/// Lets `parameters` learn and freezes all else.
///
/// What learns is held in the type of the activations; in a bf16 model, products stay in bf16 whatever
/// that type is. Norms stay f32. The master copy, which gathers small steps, is the optimizer's.
pub fn unfreeze<B: AutodiffBackend, M: Module<B>>(
    model: M,
    parameters: Vec<NamedParameter>,
    precision: Precision,
) -> (M, Vec<Trainable>) {
    let trainables: Vec<Trainable> = parameters
        .into_iter()
        .map(|parameter| Trainable {
            decayed: !parameter.kind.is_vector(),
            parameter,
        })
        .collect();
    let mut mapper = Unfreeze {
        trainables: &trainables,
        precision,
    };
    (model.map(&mut mapper), trainables)
}

struct Unfreeze<'a> {
    trainables: &'a [Trainable],
    precision: Precision,
}

impl Unfreeze<'_> {
    /// The type a parameter that learns is held in, if not that in which it is.
    fn dtype(&self, trainable: &Trainable) -> Option<DType> {
        let Precision {
            weights, compute, ..
        } = self.precision;
        let kind = trainable.parameter.kind;
        // A norm's weight and bias are held in f32 whatever the model's type is.
        let is_bf16_product = weights == WeightFormat::Bf16 && kind == ParameterKind::Product;
        (!kind.is_vector() && !is_bf16_product).then_some(compute)
    }
}

impl<B: AutodiffBackend> ModuleMapper<B> for Unfreeze<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let trainable = self
            .trainables
            .iter()
            .find(|trainable| trainable.parameter.id == param.id);
        let learns = trainable.is_some();
        let id = param.id;
        let value = param.into_value().inner();
        let value = match trainable.and_then(|trainable| self.dtype(trainable)) {
            Some(dtype) => value.cast(dtype),
            None => value,
        };
        let value = Tensor::from_inner(value);
        Param::initialized(id, if learns { value.require_grad() } else { value })
    }
}

#[cfg(test)]
mod tests {
    use bunny_core::{config::Family, model::decoder::Decoder, nn::Builder};
    use burn::{backend::Autodiff, module::ModuleVisitor};
    use burn_flex::Flex;

    use super::*;
    use crate::recipe::PhiSizes;
    use crate::trainable::parameters_of;

    type B = Autodiff<Flex>;

    /// What each parameter that learns is held in.
    struct Held<'a>(&'a [Trainable], Vec<(String, DType)>);

    impl ModuleVisitor<B> for Held<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let trainables = self.0.iter().map(|trainable| &trainable.parameter);
            let mut found = trainables.filter(|parameter| parameter.id == param.id);
            let name = &found.next().expect("everything learns").name;
            assert!(param.is_require_grad(), "{name}");
            self.1.push((name.clone(), param.val().dtype()));
        }
    }

    fn held(precision: Precision) -> Vec<(String, DType)> {
        let sizes = PhiSizes {
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            ..PhiSizes::default()
        };
        let config = sizes.decoder_config(40).unwrap();
        let (names, device) = (Family::PHI.names(), Default::default());
        let model: Decoder<B> = Builder::random(1, names, precision, &device, |builder| {
            Decoder::new(&config, builder)
        });
        let parameters = parameters_of(&model, &config.describe(names));
        let (model, trainables) = unfreeze(model, parameters, precision);
        let mut held = Held(&trainables, Vec::new());
        model.visit(&mut held);
        assert!(held.1.len() > 10);
        held.1
    }

    #[test]
    fn products_of_a_bf16_model_stay_so_and_nothing_else_does() {
        for (name, dtype) in held(Precision::weights_only(WeightFormat::Bf16)) {
            let is_product =
                name.contains("_proj") || name.contains("dense") || name.contains("fc");
            let expected = match is_product && name.ends_with("weight") {
                true => DType::BF16,
                false => DType::F32,
            };
            assert_eq!(dtype, expected, "{name}");
        }
    }

    #[test]
    fn what_learns_of_an_f16_model_is_held_in_the_type_of_activations() {
        for (name, dtype) in held(Precision::weights_only(WeightFormat::F16)) {
            assert_eq!(dtype, DType::F32, "{name}");
        }
    }
}
