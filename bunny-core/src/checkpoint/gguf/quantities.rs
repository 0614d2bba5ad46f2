//! In what the tensors of a GGUF file are held, as `llama-quantize` chooses it.

use bunny_weights::gguf::TensorType;

use crate::{
    config::BunnyConfig,
    nn::{ParameterKind, ParameterSpec},
};

/// In what most of a language model's weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Quantities {
    /// Floats of 16 bits.
    #[default]
    F16,
    /// Eight bits.
    Q8_0,
    /// Four bits, the head six.
    Q4_0,
    /// Four bits with scales and minima; the head, and some of what loses most, six.
    Q4KM,
}

impl Quantities {
    /// The name on the command line and in the names of files.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4KM => "q4_k_m",
        }
    }

    /// The number of `general.file_type`.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4KM => 15,
        }
    }

    /// What a parameter of the language model is held in; `bits` are those of the integers that it is in
    /// already, if it is.
    pub(super) fn of(
        self,
        spec: &ParameterSpec,
        config: &BunnyConfig,
        bits: Option<usize>,
    ) -> TensorType {
        let (is_matrix, row) = match spec.shape[..] {
            [_, row] => (true, row),
            _ => (false, 0),
        };
        let is_weight = matches!(spec.kind, ParameterKind::Product | ParameterKind::Table);
        if !is_matrix || !is_weight {
            return TensorType::F32;
        }
        let head = match config.decoder.tie_word_embeddings {
            true => "model.embed_tokens",
            false => "lm_head",
        };
        let is_head = spec.local.starts_with(head);
        let wanted = match self {
            Self::F16 => TensorType::F16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q4_0 | Self::Q4KM if is_head => TensorType::Q6K,
            Self::Q4_0 => TensorType::Q4_0,
            Self::Q4KM if is_dear(spec, config.decoder.num_hidden_layers) => TensorType::Q6K,
            Self::Q4KM => TensorType::Q4K,
        };
        // What is in integers already is not rounded anew, where as few bits are wanted.
        let kept = match (wanted, bits) {
            (TensorType::Q4_0 | TensorType::Q4K | TensorType::Q6K, Some(4)) => TensorType::Q4_0,
            (TensorType::Q6K, Some(8)) => TensorType::Q8_0,
            _ => wanted,
        };
        fitting(kept, row)
    }
}

/// Whether a layer's weight has six bits among those of four: the values of attention and the end of the
/// MLP, in the first and last eighth of the layers and in every third between.
fn is_dear(spec: &ParameterSpec, layers: usize) -> bool {
    let Some(layer) = spec.layer else {
        return false;
    };
    let parts = [".v_proj.", ".qkv_proj.", ".down_proj."];
    let is_part = parts.iter().any(|part| spec.local.contains(part));
    let first = layers / 8;
    is_part && (layer < first || layer >= 7 * layers / 8 || (layer - first) % 3 == 2)
}

/// The type that is closest among those whose blocks rows of so many numbers are made of.
fn fitting(wanted: TensorType, row: usize) -> TensorType {
    let fits = |kind: TensorType| row.is_multiple_of(kind.block());
    let second = match wanted {
        TensorType::Q4K => TensorType::Q5_0,
        TensorType::Q6K => TensorType::Q8_0,
        other => other,
    };
    let choices = [wanted, second];
    let found = choices.into_iter().find(|kind| fits(*kind));
    found.unwrap_or(TensorType::F16)
}

/// What a parameter of tower or projector is held in: floats, since their rows are mostly no whole blocks.
pub(super) fn of_tower(spec: &ParameterSpec) -> TensorType {
    match spec.kind {
        ParameterKind::Product => TensorType::F16,
        _ => TensorType::F32,
    }
}
