//! The pickle machine: runs a pickle with a short list of what it may build.
//!
//! Python's pickle may call anything. This machine knows dictionaries, tensors and their storages;
//! a pickle that asks for more is refused, by name. Values live in one arena and refer to each
//! other by number, so that no pickle, however nested, exhausts the call stack, and one that
//! repeats a value does not multiply it.

use std::collections::HashMap;

use super::values::{Global, Id, Pickle, Record, Storage, Value};
use crate::error::PickleError;

/// The longest pickle that is read; 200 bytes a tensor are usual.
const PICKLE_LIMIT: usize = 64 << 20;
/// The most values a pickle may build or hold on its stack; 20 a tensor are usual.
const VALUES_LIMIT: usize = 4 << 20;
/// The most dimensions of a tensor; models have up to five.
const DIMENSIONS_LIMIT: usize = 8;

/// Runs the pickle that starts at byte `start`.
pub(super) fn run(bytes: &[u8], start: usize) -> Result<Pickle<'_>, PickleError> {
    let bytes = bytes
        .get(..bytes.len().min(start.saturating_add(PICKLE_LIMIT)))
        .unwrap_or(bytes);
    let mut machine = Machine {
        bytes,
        at: start,
        opcode_at: start,
        // Constants are shared: a pickle of nothing but these builds nothing.
        values: vec![
            Value::None,
            Value::Bool(false),
            Value::Bool(true),
            Value::Tuple(Vec::new()),
        ],
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run().map_err(|error| match error {
        PickleError::Cut { .. } if bytes.len() - start.min(bytes.len()) == PICKLE_LIMIT => {
            PickleError::TooLarge {
                limit: PICKLE_LIMIT,
                unit: "bytes",
            }
        }
        error => error,
    })?;
    Ok(Pickle::new(machine.values, root, machine.at))
}

const NONE: Id = Id(0);
const FALSE: Id = Id(1);
const TRUE: Id = Id(2);
const EMPTY_TUPLE: Id = Id(3);

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the instruction being run stands.
    opcode_at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

/// The instructions that torch's pickles use, by their names in Python's `pickletools`.
mod op {
    pub const MARK: u8 = b'(';
    pub const STOP: u8 = b'.';
    pub const BINFLOAT: u8 = b'G';
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const BININT2: u8 = b'M';
    pub const NONE: u8 = b'N';
    pub const BINPERSID: u8 = b'Q';
    pub const REDUCE: u8 = b'R';
    pub const BINUNICODE: u8 = b'X';
    pub const APPEND: u8 = b'a';
    pub const BUILD: u8 = b'b';
    pub const GLOBAL: u8 = b'c';
    pub const APPENDS: u8 = b'e';
    pub const BINGET: u8 = b'h';
    pub const LONG_BINGET: u8 = b'j';
    pub const BINPUT: u8 = b'q';
    pub const LONG_BINPUT: u8 = b'r';
    pub const SETITEM: u8 = b's';
    pub const TUPLE: u8 = b't';
    pub const SETITEMS: u8 = b'u';
    pub const EMPTY_LIST: u8 = b']';
    pub const EMPTY_DICT: u8 = b'}';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const PROTO: u8 = 0x80;
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const NEWTRUE: u8 = 0x88;
    pub const NEWFALSE: u8 = 0x89;
    pub const LONG1: u8 = 0x8a;
    pub const SHORT_BINUNICODE: u8 = 0x8c;
    pub const STACK_GLOBAL: u8 = 0x93;
    pub const MEMOIZE: u8 = 0x94;
    pub const FRAME: u8 = 0x95;
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, PickleError> {
        loop {
            self.opcode_at = self.at;
            let [opcode] = self.array()?;
            if opcode == op::STOP {
                return self.pop();
            }
            self.step(opcode)?;
            if self
                .values
                .len()
                .max(self.stack.len())
                .max(self.marks.len())
                > VALUES_LIMIT
            {
                return Err(PickleError::TooLarge {
                    limit: VALUES_LIMIT,
                    unit: "values",
                });
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            op::PROTO => self.skip(1)?,
            op::FRAME => self.skip(8)?,

            op::NONE => self.stack.push(NONE),
            op::NEWTRUE => self.stack.push(TRUE),
            op::NEWFALSE => self.stack.push(FALSE),
            op::EMPTY_TUPLE => self.stack.push(EMPTY_TUPLE),
            op::EMPTY_LIST => self.push(Value::List(Vec::new())),
            op::EMPTY_DICT => self.push(Value::Dict(Vec::new())),
            op::BININT => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            op::BININT1 => {
                let [number] = self.array()?;
                self.push(Value::Int(number.into()));
            }
            op::BININT2 => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            op::LONG1 => {
                let [length] = self.array()?;
                let number = long(self.take(length.into())?);
                self.push(number);
            }
            op::BINFLOAT => {
                self.skip(8)?;
                self.push(Value::Opaque("a number"));
            }
            op::SHORT_BINUNICODE => {
                let [length] = self.array()?;
                self.text(length.into())?;
            }
            op::BINUNICODE => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length.into())?;
            }

            op::BINPUT => {
                let [key] = self.array()?;
                self.remember(key.into())?;
            }
            op::LONG_BINPUT => {
                let key = u32::from_le_bytes(self.array()?);
                self.remember(key)?;
            }
            op::MEMOIZE => self.remember(self.memo.len() as u32)?,
            op::BINGET => {
                let [key] = self.array()?;
                self.recall(key.into())?;
            }
            op::LONG_BINGET => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }

            op::MARK => self.marks.push(self.stack.len()),
            op::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let mut items = Vec::with_capacity(3);
                for _ in op::TUPLE1..=opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Value::Tuple(items));
            }
            op::APPEND => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            op::APPENDS => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            op::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            op::SETITEMS => {
                let items = self.pop_to_mark()?;
                self.set(&items)?;
            }

            op::GLOBAL => {
                let module = self.line()?;
                let name = self.line()?;
                self.push(Value::Global(Global::named(module, name)?));
            }
            op::STACK_GLOBAL => {
                let name = self.pop()?;
                let module = self.pop()?;
                let (&Value::Text(module), &Value::Text(name)) =
                    (self.value(module), self.value(name))
                else {
                    return Err(self.damaged("a type whose name is no text"));
                };
                self.push(Value::Global(Global::named(module, name)?));
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage));
            }
            op::REDUCE => {
                let arguments = self.pop()?;
                let function = self.pop()?;
                let result = self.call(function, arguments)?;
                self.stack.push(result);
            }
            // State dicts carry version numbers as an attribute, which torch alone looks at.
            op::BUILD => {
                self.pop()?;
                if !matches!(self.value(self.top()?), Value::Dict(_)) {
                    return Err(self.damaged("an attribute of something that has none"));
                }
            }
            opcode => {
                return Err(PickleError::Opcode {
                    opcode,
                    at: self.opcode_at,
                });
            }
        }
        Ok(())
    }

    /// Calls one of the functions a pickle may name.
    fn call(&mut self, function: Id, arguments: Id) -> Result<Id, PickleError> {
        let Value::Tuple(arguments) = self.value(arguments) else {
            return Err(self.damaged("a call without a tuple of arguments"));
        };
        let result = match (self.value(function), arguments.as_slice()) {
            (Value::Global(Global::OrderedDict), []) => Value::Dict(Vec::new()),
            (
                Value::Global(Global::RebuildTensor),
                &[
                    storage,
                    offset,
                    shape,
                    strides,
                    _requires_grad,
                    _hooks,
                    ref metadata @ ..,
                ],
            ) if metadata.len() <= 1 => {
                let record = self.tensor(storage, offset, shape, strides, metadata)?;
                Value::Tensor(Box::new(record))
            }
            (Value::Global(Global::RebuildParameter), &[tensor, _requires_grad, _hooks])
            | (
                Value::Global(Global::RebuildParameterWithState),
                &[tensor, _requires_grad, _hooks, _],
            ) if matches!(self.value(tensor), Value::Tensor(_)) => {
                return Ok(tensor);
            }
            // What a plain tensor would be made by, its arguments, and attributes.
            (Value::Global(Global::RebuildFromType), &[function, class, arguments, _])
                if matches!(self.value(class), Value::Global(Global::TensorType))
                    && matches!(
                        self.value(function),
                        Value::Global(Global::RebuildTensor | Global::RebuildParameter)
                    ) =>
            {
                return self.call(function, arguments);
            }
            _ => return Err(self.damaged("a call that torch does not write")),
        };
        self.values.push(result);
        Ok(Id(self.values.len() as u32 - 1))
    }

    fn tensor(
        &self,
        storage: Id,
        offset: Id,
        shape: Id,
        strides: Id,
        metadata: &[Id],
    ) -> Result<Record<'a>, PickleError> {
        let (&Value::Storage(storage), &Value::Int(offset)) =
            (self.value(storage), self.value(offset))
        else {
            return Err(self.damaged("a tensor without a storage or an offset"));
        };
        let lazy = match metadata.first().map(|&id| self.value(id)) {
            None | Some(Value::None) => false,
            Some(Value::Dict(flags)) => flags
                .iter()
                .any(|&(_, flag)| !matches!(self.value(flag), Value::Bool(false))),
            Some(_) => return Err(self.damaged("a tensor whose flags are no dictionary")),
        };
        Ok(Record {
            storage,
            offset,
            shape: self.sizes(shape)?,
            strides: self.sizes(strides)?,
            lazy,
        })
    }

    fn sizes(&self, id: Id) -> Result<Vec<i64>, PickleError> {
        let Value::Tuple(sizes) = self.value(id) else {
            return Err(self.damaged("a shape or strides that are no tuple"));
        };
        if sizes.len() > DIMENSIONS_LIMIT {
            return Err(PickleError::Dimensions {
                found: sizes.len(),
                limit: DIMENSIONS_LIMIT,
            });
        }
        sizes
            .iter()
            .map(|&size| match *self.value(size) {
                Value::Int(size) => Ok(size),
                _ => Err(self.damaged("a shape or strides with something else than a number")),
            })
            .collect()
    }

    /// A storage from its persistent id: `("storage", type, key, device, elements)`, and in the
    /// older format the part of another storage that it is, which no released torch sets.
    fn storage(&self, id: Id) -> Result<Storage<'a>, PickleError> {
        if let Value::Tuple(parts) = self.value(id)
            && let &[tag, kind, key, _device, elements, ref part @ ..] = parts.as_slice()
            && let (Value::Text("storage"), &Value::Global(Global::Storage(dtype))) =
                (self.value(tag), self.value(kind))
            && let (&Value::Text(key), &Value::Int(elements)) =
                (self.value(key), self.value(elements))
            && let Ok(elements) = u64::try_from(elements)
            && (part.is_empty() || part == [NONE])
        {
            return Ok(Storage {
                key,
                dtype,
                elements,
            });
        }
        Err(self.damaged("a reference to something else than a storage"))
    }

    fn append(&mut self, mut items: Vec<Id>) -> Result<(), PickleError> {
        let Id(list) = self.top()?;
        match &mut self.values[list as usize] {
            Value::List(list) => {
                list.append(&mut items);
                Ok(())
            }
            _ => Err(self.damaged("an item appended to something that is no list")),
        }
    }

    fn set(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        let Id(dict) = self.top()?;
        match &mut self.values[dict as usize] {
            Value::Dict(entries) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            _ => Err(self.damaged("an entry set in something that is no dictionary")),
        }
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(Id(self.values.len() as u32));
        self.values.push(value);
    }

    fn text(&mut self, length: u64) -> Result<(), PickleError> {
        let text = std::str::from_utf8(self.take(length)?)
            .map_err(|_| self.damaged("text that is not UTF-8"))?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn remember(&mut self, key: u32) -> Result<(), PickleError> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), PickleError> {
        let &id = self
            .memo
            .get(&key)
            .ok_or(self.damaged("a value recalled before it was set"))?;
        self.stack.push(id);
        Ok(())
    }

    /// The value on top of the stack, which must lie above the last mark.
    fn top(&self) -> Result<Id, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&id) if self.stack.len() > floor => Ok(id),
            _ => Err(self.damaged("an instruction without a value to work on")),
        }
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self
            .marks
            .pop()
            .ok_or(self.damaged("an instruction without its mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], PickleError> {
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| self.bytes.get(self.at..)?.get(..length))
            .ok_or(PickleError::Cut { at: self.opcode_at })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn skip(&mut self, length: u64) -> Result<(), PickleError> {
        self.take(length).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let taken = self.take(N as u64)?;
        taken
            .try_into()
            .map_err(|_| PickleError::Cut { at: self.opcode_at })
    }

    /// The rest of a line of text, without its end.
    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(PickleError::Cut { at: self.opcode_at })?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| self.damaged("text that is not UTF-8"))
    }

    fn damaged(&self, reason: &'static str) -> PickleError {
        PickleError::Damaged {
            reason,
            at: self.opcode_at,
        }
    }
}

/// A whole number of any length, little endian with sign.
fn long<'a>(bytes: &[u8]) -> Value<'a> {
    let Some(&last) = bytes.last() else {
        return Value::Int(0);
    };
    if bytes.len() > 8 {
        return Value::Opaque("a number");
    }
    let mut number = [if last < 0x80 { 0 } else { 0xff }; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(number))
}
