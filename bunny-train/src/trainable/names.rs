//! What every parameter of a model is called in files.

use bunny_core::{Bunny, config::ProjectorKind, model::decoder::Decoder, nn::NameTable};
use bunny_weights::adapter::{LoraMatrix, lora_name};
use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{Tensor, backend::Backend},
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
    /// Its shape.
    pub shape: Vec<usize>,
}

impl NamedParameter {
    /// Whether it has a row for each token: one whose gradient is summed up row by row.
    pub fn is_token_table(&self) -> bool {
        const TABLES: [&str; 3] = [
            "embed_tokens.weight",
            "token_embedding.weight",
            "lm_head.weight",
        ];
        TABLES.iter().any(|table| self.name.ends_with(table))
    }
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

/// Every parameter of a Bunny, in the model's order.
pub fn parameters<B: Backend>(model: &Bunny<B>) -> Vec<NamedParameter> {
    let names = model.config().family.names();
    let projector = model.config().projector.kind;
    walk(model, |path| match path {
        ["vision_tower", rest @ ..] => {
            // The name is doubled in published files: the reference's wrapper, then the tower.
            let name = format!("model.vision_tower.vision_tower.{}", rest.join("."));
            (names.published(&name), 0, Part::Tower)
        }
        ["mm_projector", "layers", layer, rest @ ..] => {
            let name = match (projector, layer.parse::<usize>()) {
                // Every other place of the published sequence is a GELU.
                (ProjectorKind::Mlp { .. }, Ok(layer)) => {
                    format!("model.mm_projector.{}.{}", 2 * layer, rest.join("."))
                }
                _ => format!("model.mm_projector.{}", rest.join(".")),
            };
            (name, 0, Part::Projector)
        }
        ["language_model", rest @ ..] => decoder_name(names, rest),
        other => (other.join("."), 0, Part::Language),
    })
}

/// Every parameter of a language model alone, in the model's order.
pub fn decoder_parameters<B: Backend>(
    model: &Decoder<B>,
    names: &NameTable,
) -> Vec<NamedParameter> {
    walk(model, |path| decoder_name(names, path))
}

/// The name in files of the decoder's parameter at `path`, its block and its part.
fn decoder_name(names: &NameTable, path: &[&str]) -> (String, usize, Part) {
    let published = |path: &[&str]| names.published(&path.join("."));
    match path {
        [target @ .., "lora", "lora_a"] => {
            (lora_name(&published(target), LoraMatrix::A), 0, Part::Lora)
        }
        [target @ .., "lora", "lora_b"] => {
            (lora_name(&published(target), LoraMatrix::B), 0, Part::Lora)
        }
        [table @ .., "blocks", block] => {
            (published(table), block.parse().unwrap_or(0), Part::Language)
        }
        path => (published(path), 0, Part::Language),
    }
}

/// Every parameter of a module; `name` gives, by its path of fields, its name in files, its block
/// and its part.
pub fn walk<B: Backend>(
    module: &impl Module<B>,
    name: impl Fn(&[&str]) -> (String, usize, Part),
) -> Vec<NamedParameter> {
    struct Walk<N> {
        path: Vec<String>,
        name: N,
        found: Vec<NamedParameter>,
    }

    impl<B: Backend, N: Fn(&[&str]) -> (String, usize, Part)> ModuleVisitor<B> for Walk<N> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            // Which kind of tower it is stands in no name.
            if !container_type.starts_with("Enum:") {
                self.path.push(name.to_owned());
            }
        }

        fn exit_module(&mut self, _name: &str, container_type: &str) {
            if !container_type.starts_with("Enum:") {
                self.path.pop();
            }
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
            let (name, block, part) = (self.name)(&path);
            self.found.push(NamedParameter {
                id: param.id,
                name,
                block,
                part,
                shape: param.lazy_shape().to_vec(),
            });
        }
    }

    let mut walk = Walk {
        path: Vec::new(),
        name,
        found: Vec::new(),
    };
    module.visit(&mut walk);
    walk.found
}
