//! What every parameter of a model is called in files.

use bunny_core::{
    Bunny,
    checkpoint::{
        NameTable,
        adapter::{LoraMatrix, lora_name},
    },
    projector::ProjectorKind,
};
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

/// Every parameter of a model, in the model's order.
pub fn parameters<B: Backend>(model: &Bunny<B>) -> Vec<NamedParameter> {
    let mut visitor = Names {
        path: Vec::new(),
        names: model.config().family.names(),
        projector: model.config().projector.kind,
        found: Vec::new(),
    };
    model.visit(&mut visitor);
    visitor.found
}

struct Names {
    path: Vec<String>,
    names: &'static NameTable,
    projector: ProjectorKind,
    found: Vec<NamedParameter>,
}

impl<B: Backend> ModuleVisitor<B> for Names {
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
        let (name, block, part) = self.name(&path);
        self.found.push(NamedParameter {
            id: param.id,
            name,
            block,
            part,
            shape: param.lazy_shape().to_vec(),
        });
    }
}

impl Names {
    /// The name in files of the parameter at `path`, its block and its part.
    fn name(&self, path: &[&str]) -> (String, usize, Part) {
        let published = |path: &[&str]| self.names.published(&path.join("."));
        match path {
            ["vision_tower", rest @ ..] => {
                // The name is doubled in published files: the reference's wrapper, then the tower.
                let name = format!("model.vision_tower.vision_tower.{}", rest.join("."));
                (self.names.published(&name), 0, Part::Tower)
            }
            ["mm_projector", "layers", layer, rest @ ..] => {
                let name = match (self.projector, layer.parse::<usize>()) {
                    // Every other place of the published sequence is a GELU.
                    (ProjectorKind::Mlp { .. }, Ok(layer)) => {
                        format!("model.mm_projector.{}.{}", 2 * layer, rest.join("."))
                    }
                    _ => format!("model.mm_projector.{}", rest.join(".")),
                };
                (name, 0, Part::Projector)
            }
            ["language_model", target @ .., "lora", "lora_a"] => {
                (lora_name(&published(target), LoraMatrix::A), 0, Part::Lora)
            }
            ["language_model", target @ .., "lora", "lora_b"] => {
                (lora_name(&published(target), LoraMatrix::B), 0, Part::Lora)
            }
            ["language_model", table @ .., "blocks", block] => {
                (published(table), block.parse().unwrap_or(0), Part::Language)
            }
            ["language_model", rest @ ..] => (published(rest), 0, Part::Language),
            other => (other.join("."), 0, Part::Language),
        }
    }
}
