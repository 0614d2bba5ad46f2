//! What a model consists of, said without building it.
//!
//! A module is described by the walk that builds it, so that counts, plans, names in files and
//! what learns how are derived from one list.

use std::ops::Range;

use bunny_weights::adapter::LoraMatrix;
use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{Int, Tensor, backend::Backend},
};

/// What a parameter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterKind {
    /// The weight of a product, `[out, in]`, or of a convolution over patches.
    Product,
    /// A row for each token.
    Table,
    /// Added to activations: positions, a class token.
    Addend,
    /// The bias of a product.
    Bias,
    /// A norm's weight or bias, or another number that is f32 whatever the model is.
    Norm,
}

impl ParameterKind {
    /// Whether it is a vector that is added or multiplied channel by channel: what is not decayed.
    pub fn is_vector(self) -> bool {
        matches!(self, Self::Bias | Self::Norm)
    }
}

/// A part of a Bunny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// Embedding, decoder layers, final norm and head.
    LanguageModel,
    /// The vision tower.
    VisionTower,
    /// The projector.
    Projector,
}

impl Part {
    /// How the names of the part's tensors begin in published files. The tower's is doubled: the
    /// reference's wrapper, then the tower.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::LanguageModel => "",
            Self::VisionTower => "model.vision_tower.vision_tower.",
            Self::Projector => "model.mm_projector.",
        }
    }
}

/// One parameter of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// What it is called here.
    pub local: String,
    /// What the tensor that holds it is called in published files.
    pub published: String,
    /// Its rows of that tensor, where others share it.
    pub rows: Option<Range<usize>>,
    /// Its shape.
    pub shape: Vec<usize>,
    /// What it does.
    pub kind: ParameterKind,
    /// The part that it belongs to.
    pub part: Part,
    /// The layer of its part that it belongs to, if it is within the layers.
    pub layer: Option<usize>,
}

impl ParameterSpec {
    /// How many numbers it has.
    pub fn count(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }

    /// The published name of the layer that a LoRA adapter stands beside, where this is its weight:
    /// adapters stand beside every product within the language model's layers.
    pub fn adapter_target(&self) -> Option<&str> {
        let is_target = self.kind == ParameterKind::Product
            && self.part == Part::LanguageModel
            && self.layer.is_some();
        self.published.strip_suffix(".weight").filter(|_| is_target)
    }
}

/// How many numbers all of `specs` have.
pub fn count<'a>(specs: impl IntoIterator<Item = &'a ParameterSpec>) -> u64 {
    specs.into_iter().map(ParameterSpec::count).sum()
}

/// A parameter of a module that stands, met by [`visit_parameters`].
pub struct Visited<'a, B: Backend> {
    /// What is said of it; of an adapter's matrix, what is said of the weight that it stands beside.
    pub spec: &'a ParameterSpec,
    /// Which of an adapter's matrices it is, if it is one.
    pub lora: Option<LoraMatrix>,
    /// Which block of rows of a token table it is; 0 for all else.
    pub block: usize,
    /// What the module knows it by.
    pub id: ParamId,
    /// Its shape; of a block, the block's.
    pub shape: Vec<usize>,
    numbers: &'a dyn Fn() -> Tensor<B, 1>,
}

impl<B: Backend> Visited<'_, B> {
    /// Its numbers, flat. A parameter that is not loaded yet is loaded by this.
    pub fn numbers(&self) -> Tensor<B, 1> {
        (self.numbers)()
    }
}

impl<B: Backend> std::fmt::Debug for Visited<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visited")
            .field("spec", self.spec)
            .field("lora", &self.lora)
            .field("block", &self.block)
            .finish_non_exhaustive()
    }
}

/// Meets every parameter of a module that is held in floats, in the module's order, with what `specs`, its description,
/// says of it. An adapter's matrices come behind the product that they stand beside.
///
/// # Panics
/// When the module is not the one that is described: a module's fields have to be built in the order
/// in which they are declared.
pub fn visit_parameters<B: Backend, M: Module<B>>(
    module: &M,
    specs: &[ParameterSpec],
    each: impl FnMut(Visited<'_, B>),
) {
    let mut walk = Walk {
        specs,
        met: 0,
        rows: 0,
        block: 0,
        path: Vec::new(),
        each,
    };
    module.visit(&mut walk);
    assert_eq!(walk.met, specs.len(), "the module has fewer parameters");
}

struct Walk<'a, F> {
    specs: &'a [ParameterSpec],
    /// How many of the specs have been met whole.
    met: usize,
    /// Rows of the present token table that have been met, and its blocks.
    rows: usize,
    block: usize,
    /// Field and containing type, from the module down to where the walk is.
    path: Vec<(String, String)>,
    each: F,
}

impl<'a, F> Walk<'a, F> {
    /// The matrix that is met now, if it is an adapter's, and the weight that it stands beside.
    fn lora(&self) -> Option<(LoraMatrix, &'a ParameterSpec)> {
        let (field, container) = self.path.last()?;
        let matrix = match (container.as_str(), field.as_str()) {
            ("Struct:Lora", "lora_a") => LoraMatrix::A,
            ("Struct:Lora", "lora_b") => LoraMatrix::B,
            _ => return None,
        };
        let behind = self.specs[..self.met].iter().rev();
        let mut products = behind.filter(|spec| spec.kind == ParameterKind::Product);
        Some((matrix, products.next()?))
    }

    /// What is said of the parameter of this shape that is met now, and which block of it it is.
    fn next(&mut self, shape: &[usize]) -> (&'a ParameterSpec, usize) {
        let spec = self.specs.get(self.met);
        let spec = spec.expect("the module has more parameters than are described");
        let block = self.block;
        if spec.kind == ParameterKind::Table && shape[0] < spec.shape[0] {
            self.rows += shape[0];
            self.block += 1;
        } else {
            assert_eq!(shape, spec.shape, "{}", spec.local);
            self.rows = spec.shape[0];
        }
        if self.rows == spec.shape[0] {
            (self.met, self.rows, self.block) = (self.met + 1, 0, 0);
        }
        (spec, block)
    }
}

impl<B: Backend, F: FnMut(Visited<'_, B>)> ModuleVisitor<B> for Walk<'_, F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.into(), container_type.into()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    /// Whole numbers are a packed weight's: codes, and their scales behind them.
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        if self.path.last().is_some_and(|(field, _)| field == "codes") {
            let spec = self.specs.get(self.met);
            let spec = spec.expect("the module has more parameters than are described");
            self.next(&[param.val().dims()[0], spec.shape[1]]);
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let shape = param.lazy_shape().to_vec();
        let (lora, spec, block) = match self.lora() {
            Some((matrix, beside)) => (Some(matrix), beside, 0),
            None => {
                let (spec, block) = self.next(&shape);
                (None, spec, block)
            }
        };
        let count: usize = shape.iter().product();
        (self.each)(Visited {
            spec,
            lora,
            block,
            id: param.id,
            shape,
            numbers: &|| param.val().reshape([count]),
        });
    }
}
