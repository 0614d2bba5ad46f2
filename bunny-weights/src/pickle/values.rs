//! What a pickle may build. Values refer to each other by number; see [`machine`](super::machine).

use crate::StoredDtype;
use crate::error::{PickleError, one_line};

/// The number of a value in its pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub u32);

/// What a pickle can build.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A number or run of bytes that nothing here looks into.
    Opaque(&'static str),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage<'a>),
    Tensor(Box<Record<'a>>),
}

/// What a pickle may ask for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// A parameter with attributes of its own.
    RebuildParameterWithState,
    /// A tensor of a class of its own, or with attributes: `torch.nn.Buffer` is one.
    RebuildFromType,
    TensorType,
    Storage(StoredDtype),
    Dtype,
}

/// A run of numbers outside the pickle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: StoredDtype,
    pub elements: u64,
}

/// A tensor as the pickle describes it, not yet checked.
#[derive(Debug)]
pub(super) struct Record<'a> {
    pub storage: Storage<'a>,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
    /// A conjugated or negated view, whose stored numbers are not its own.
    pub lazy: bool,
}

/// What a pickle has built.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    /// The object that was pickled.
    pub root: Id,
    /// Where the pickle ends.
    pub end: usize,
}

impl<'a> Pickle<'a> {
    pub fn new(values: Vec<Value<'a>>, root: Id, end: usize) -> Self {
        Self { values, root, end }
    }

    pub fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    pub fn text(&self, id: Id) -> Option<&'a str> {
        match *self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Every storage it refers to, some several times.
    pub fn storages(&self) -> impl Iterator<Item = &Storage<'a>> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(storage),
            _ => None,
        })
    }
}

impl Value<'_> {
    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Opaque(kind) => kind,
            Self::Text(_) => "text",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a type",
            Self::Storage(_) => "a bare storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

impl Global {
    /// The one that a pickle calls `module.name`; any other is refused.
    pub fn named(module: &str, name: &str) -> Result<Self, PickleError> {
        use StoredDtype::*;
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch._utils", "_rebuild_parameter_with_state") => Self::RebuildParameterWithState,
            ("torch._tensor", "_rebuild_from_type_v2") => Self::RebuildFromType,
            ("torch", "Tensor") | ("torch.nn.parameter", "Parameter" | "Buffer") => {
                Self::TensorType
            }
            ("torch", "DoubleStorage") => Self::Storage(F64),
            ("torch", "FloatStorage") => Self::Storage(F32),
            ("torch", "HalfStorage") => Self::Storage(F16),
            ("torch", "BFloat16Storage") => Self::Storage(BF16),
            ("torch", "LongStorage") => Self::Storage(I64),
            ("torch", "IntStorage") => Self::Storage(I32),
            ("torch", "ShortStorage") => Self::Storage(I16),
            ("torch", "CharStorage") => Self::Storage(I8),
            ("torch", "ByteStorage") => Self::Storage(U8),
            ("torch", "BoolStorage") => Self::Storage(Bool),
            (
                "torch",
                "float64" | "float32" | "float16" | "bfloat16" | "int64" | "int32" | "int16"
                | "int8" | "uint8" | "bool",
            ) => Self::Dtype,
            _ => {
                let (module, name) = (one_line(module), one_line(name));
                return Err(PickleError::Global { module, name });
            }
        })
    }
}
