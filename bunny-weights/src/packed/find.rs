//! Finds weights in integers among the tensors of files.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Form, PackedConfig, PackedTensor,
    integers::{Integers, Layout},
    words,
};
use crate::{
    StoredDtype, StoredTensor, TensorFiles,
    error::{CheckpointError, PackedError},
};

impl PackedConfig {
    /// Takes the weights in integers out of `files`, each under the name that it would have in floats.
    ///
    /// # Errors
    /// When a part of one is missing, of another shape or type, or stored in a way that is not read.
    pub fn take_from(
        &self,
        files: TensorFiles,
    ) -> Result<(TensorFiles, BTreeMap<String, PackedTensor>), CheckpointError> {
        let mut found = BTreeMap::new();
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for name in files.names() {
            let Some((layer, part)) = name.rsplit_once('.') else {
                continue;
            };
            let is_bytes = || files.dtype(name) == Some(StoredDtype::I8);
            let codes = match part {
                "weight_packed" => name,
                "weight" if is_bytes() => name,
                _ => continue,
            };
            let parts = Parts {
                files: &files,
                layer,
            };
            let fault = |fault: PackedError| {
                let file = files.file(codes).unwrap_or("".as_ref());
                fault.at(file)
            };
            let packed = parts.open(codes, self).map_err(fault)?;
            taken.extend(parts.names());
            found.insert(packed.name.clone(), packed);
        }
        // Scales of activations say how others round what is multiplied; here that is chosen at run time.
        let is_left = |name: &str| {
            let is_scale = |end| name.strip_suffix(end).is_some();
            !taken.contains(name)
                && ![".input_scale", ".input_zero_point", ".input_global_scale"]
                    .into_iter()
                    .any(is_scale)
        };
        let files = files.renamed(|name| is_left(name).then(|| name.to_string()))?;
        Ok((files, found))
    }
}

/// The tensors of one layer.
struct Parts<'a> {
    files: &'a TensorFiles,
    layer: &'a str,
}

impl Parts<'_> {
    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.layer)
    }

    /// Those that belong to a weight in integers.
    fn names(&self) -> impl Iterator<Item = String> {
        let parts = [
            "weight_packed",
            "weight",
            "weight_scale",
            "weight_shape",
            "weight_zero_point",
        ];
        parts.into_iter().map(|part| self.name(part))
    }

    fn get(&self, part: &str) -> Option<StoredTensor> {
        self.files.get(&self.name(part))
    }

    fn needed(&self, part: &str, beside: &str) -> Result<StoredTensor, PackedError> {
        self.get(part).ok_or_else(|| PackedError::Missing {
            tensor: self.name(part),
            beside: beside.into(),
        })
    }

    /// The weight whose integers are `codes`.
    fn open(&self, codes: &str, config: &PackedConfig) -> Result<PackedTensor, PackedError> {
        if self.files.contains(&self.name("weight_g_idx")) {
            return Err(PackedError::NotRead {
                tensor: self.name("weight_g_idx"),
                problem: "orders the numbers of groups, which is not supported yet: quantise without \
                          `actorder: group`",
            });
        }
        let words_and_floats =
            codes.ends_with("_packed") && self.files.contains(&self.name("weight"));
        if words_and_floats {
            return Err(PackedError::NotRead {
                tensor: codes.into(),
                problem: "stands beside the same weight in floats: leave one of them out",
            });
        }
        let stored = self.files.get(codes).expect("the name is the files' own");
        let (layout, sides) = match codes.ends_with("_packed") {
            true => self.words(&stored, config)?,
            false => match stored.shape[..] {
                [out, inner] => (Layout::Bytes, [out, inner]),
                _ => return Err(misshapen(&stored, "I8 [out, in]")),
            },
        };
        let scales = self.needed("weight_scale", codes)?;
        let group = group_of(&scales, sides, config)?;
        let bits = layout.bits();
        let zeros = self.get("weight_zero_point");
        if let Some(zeros) = &zeros {
            let groups = sides[1].div_ceil(group);
            let wanted = match zeros.dtype {
                StoredDtype::I32 => [words(sides[0], bits), groups],
                _ => [sides[0], groups],
            };
            if zeros.shape != wanted || !matches!(zeros.dtype, StoredDtype::I32 | StoredDtype::I8) {
                let packed = words(sides[0], bits);
                let [out, _] = sides;
                let expected = format!("I8 [{out}, {groups}] or I32 [{packed}, {groups}]");
                return Err(misshapen(zeros, expected));
            }
        }
        // Zero points that are all zero say nothing.
        let zeros = zeros.filter(|zeros| {
            let zero = match (zeros.dtype, bits) {
                (StoredDtype::I8, _) => 0,
                (_, 4) => 0x88,
                _ => 0x80,
            };
            zeros.bytes.iter().any(|byte| *byte != zero)
        });
        Ok(PackedTensor {
            name: self.name("weight"),
            sides,
            codes: stored,
            form: Form::Integers(Box::new(Integers {
                group,
                layout,
                scales,
                zeros,
            })),
        })
    }

    /// The bits of words, and the sides of the weight that they hold.
    fn words(
        &self,
        stored: &StoredTensor,
        config: &PackedConfig,
    ) -> Result<(Layout, [usize; 2]), PackedError> {
        let shape = self.needed("weight_shape", &stored.name)?;
        let said: Vec<usize> = match (shape.dtype, &shape.shape[..]) {
            (StoredDtype::I64, [2]) => {
                let numbers = shape.bytes.as_chunks::<8>().0.iter();
                let numbers = numbers.map(|bytes| i64::from_le_bytes(*bytes));
                numbers
                    .filter_map(|side| usize::try_from(side).ok())
                    .collect()
            }
            (StoredDtype::I32, [2]) => {
                let numbers = shape.bytes.as_chunks::<4>().0.iter();
                let numbers = numbers.map(|bytes| i32::from_le_bytes(*bytes));
                numbers
                    .filter_map(|side| usize::try_from(side).ok())
                    .collect()
            }
            _ => return Err(misshapen(&shape, "I64 [2]")),
        };
        let [out, inner] = said[..] else {
            return Err(PackedError::NotRead {
                tensor: shape.name,
                problem: "has a side below zero",
            });
        };
        let fits = |bits: &usize| stored.shape == [out, words(inner, *bits)];
        let bits = match config.bits.is_empty() {
            true => [4, 8].into_iter().find(fits),
            false => config.bits.iter().copied().find(fits),
        };
        match bits {
            Some(bits) if stored.dtype == StoredDtype::I32 => {
                Ok((Layout::Words { bits }, [out, inner]))
            }
            _ => {
                let shapes: Vec<String> = match config.bits.is_empty() {
                    true => &[4, 8],
                    false => &config.bits[..],
                }
                .iter()
                .map(|&bits| format!("[{out}, {}]", words(inner, bits)))
                .collect();
                Err(misshapen(stored, format!("I32 {}", shapes.join(" or "))))
            }
        }
    }
}

/// Numbers that share a scale.
fn group_of(
    scales: &StoredTensor,
    [out, inner]: [usize; 2],
    config: &PackedConfig,
) -> Result<usize, PackedError> {
    let is_float = matches!(
        scales.dtype,
        StoredDtype::F16 | StoredDtype::BF16 | StoredDtype::F32
    );
    let whole = inner.max(1);
    match scales.shape[..] {
        _ if !is_float => {}
        [1] => return Ok(whole),
        [rows, 1] if rows == out || rows == 1 => return Ok(whole),
        [rows, groups] if rows == out => {
            let mut sizes = config.groups.iter().copied();
            if let Some(size) = sizes.find(|size| inner.div_ceil(*size) == groups) {
                return Ok(size);
            }
        }
        _ => {}
    }
    let groups = config.groups.iter().map(|size| inner.div_ceil(*size));
    let groups: BTreeSet<usize> = groups.chain([1]).collect();
    let shapes: Vec<String> = groups
        .iter()
        .map(|groups| format!("[{out}, {groups}]"))
        .collect();
    Err(misshapen(scales, format!("floats {}", shapes.join(" or "))))
}

fn misshapen(tensor: &StoredTensor, expected: impl Into<String>) -> PackedError {
    PackedError::Misshapen {
        tensor: tensor.name.clone(),
        found: format!("{} {:?}", tensor.dtype.name(), tensor.shape),
        expected: expected.into(),
    }
}
