//! Reads the one pickle that CIFAR-10's Python version consists of, and no other: a dictionary of a batch's name, labels,
//! pixels and file names, as Python 2 wrote it (protocol 2).
//!
//! A pickle is a program for a stack machine, and unpickling a stranger's runs his code. This machine knows the instructions that
//! occur in those six files; the only functions it can name are NumPy's array and dtype constructors, which it recognises
//! by name and never calls.
use std::collections::HashMap;
use std::path::Path;

use crate::DataError;

/// Most things on the stack and in lists of one file: 10,000 labels, 10,000 names and a little.
const LARGEST: usize = 1 << 17;

/// A batch as stored; borrowed from the file's bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PickledBatch<'a> {
    /// Labels as Python integers.
    pub(super) labels: Vec<i64>,
    /// Rows and columns of the pixel array.
    pub(super) shape: [usize; 2],
    /// Whether columns run first.
    pub(super) fortran: bool,
    /// Pixels.
    pub(super) data: &'a [u8],
    /// Where the pixels begin in the file.
    pub(super) offset: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Value<'a> {
    Mark,
    None,
    Bool(bool),
    Int(i64),
    /// Bytes, and where they begin in the file.
    Text(&'a [u8], usize),
    Function(Function),
    /// Elements are plain; the depth is one.
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// `dtype('u1')`, before and after its state.
    Dtype,
    /// An array without its state.
    Blank,
    Array {
        shape: [usize; 2],
        fortran: bool,
        data: &'a [u8],
        offset: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Reconstruct,
    Ndarray,
    Dtype,
}

impl Value<'_> {
    /// What may be put into the memo and taken out again: nothing that grows afterwards.
    fn is_fixed(&self) -> bool {
        matches!(
            self,
            Value::None
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Text(..)
                | Value::Function(_)
                | Value::Dtype
        )
    }

    fn is_plain(&self) -> bool {
        self.is_fixed() && !matches!(self, Value::Function(_))
    }
}

/// Reads a batch.
///
/// # Errors
/// [`DataError::Corrupt`] with the offset of the instruction at fault.
pub(super) fn read_batch<'a>(path: &Path, bytes: &'a [u8]) -> Result<PickledBatch<'a>, DataError> {
    let mut machine = Machine { bytes, at: 0, stack: Vec::new(), memo: HashMap::new() };
    loop {
        let start = machine.at;
        let fault = |reason: String| DataError::corrupt(path, start as u64, reason);
        if let Some(result) = machine.step().map_err(fault)? {
            if machine.at != bytes.len() {
                return Err(DataError::corrupt(path, machine.at as u64, "bytes after the end"));
            }
            return batch(result).map_err(fault);
        }
        if machine.stack.len() > LARGEST {
            return Err(fault("more values than a batch has".to_owned()));
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    memo: HashMap<u32, Value<'a>>,
}

impl<'a> Machine<'a> {
    /// One instruction; the result at the last.
    fn step(&mut self) -> Result<Option<Value<'a>>, String> {
        let first = self.at == 0;
        let code = self.take(1)?[0];
        if first != (code == 0x80) {
            return Err("a pickle of protocol 2 begins with its number, and only there".to_owned());
        }
        match code {
            0x80 => {
                let protocol = self.take(1)?[0];
                if protocol != 2 {
                    return Err(format!("protocol {protocol}, 2 expected"));
                }
            }
            b'(' => self.stack.push(Value::Mark),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' => {
                let byte = self.take(1)?[0];
                self.stack.push(Value::Int(byte.into()));
            }
            b'M' => {
                let n = self.number(2)?;
                self.stack.push(Value::Int(n.into()));
            }
            b'J' => {
                let n = self.number(4)? as i32;
                self.stack.push(Value::Int(n.into()));
            }
            b'U' => {
                let length = self.number(1)?;
                self.text(length)?;
            }
            b'T' => {
                let length = self.number(4)?;
                self.text(length)?;
            }
            b'c' => self.function()?,
            b']' => self.stack.push(Value::List(Vec::new())),
            b'}' => self.stack.push(Value::Dict(Vec::new())),
            b'e' => self.extend_list()?,
            b'u' => self.extend_dict()?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.tuple(items)?;
            }
            0x85..=0x87 => {
                let from =
                    self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or("the stack is empty")?;
                let items = self.stack.split_off(from);
                self.tuple(items)?;
            }
            b'q' => {
                let slot = self.number(1)?;
                self.remember(slot)?;
            }
            b'r' => {
                let slot = self.number(4)?;
                self.remember(slot)?;
            }
            b'h' => {
                let slot = self.number(1)?;
                self.recall(slot)?;
            }
            b'j' => {
                let slot = self.number(4)?;
                self.recall(slot)?;
            }
            b'R' => self.construct()?,
            b'b' => self.build()?,
            b'.' => {
                let result = self.pop()?;
                return if self.stack.is_empty() {
                    Ok(Some(result))
                } else {
                    Err("values left over".to_owned())
                };
            }
            code => return Err(format!("instruction 0x{code:02x} does not occur in CIFAR-10's batches")),
        }
        Ok(None)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.get(..n));
        let bytes = bytes.ok_or_else(|| format!("the file ends here, {n} more bytes expected"))?;
        self.at += n;
        Ok(bytes)
    }

    fn number(&mut self, bytes: usize) -> Result<u32, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte)))
    }

    fn text(&mut self, length: u32) -> Result<(), String> {
        let offset = self.at;
        let text = self.take(length as usize)?;
        self.stack.push(Value::Text(text, offset));
        Ok(())
    }

    fn function(&mut self) -> Result<(), String> {
        let mut line = || {
            let rest = &self.bytes[self.at..];
            let end = rest.iter().take(64).position(|&byte| byte == b'\n').ok_or("a name without an end")?;
            self.at += end + 1;
            Ok::<_, String>(&rest[..end])
        };
        let function = match (line()?, line()?) {
            (b"numpy.core.multiarray", b"_reconstruct") => Function::Reconstruct,
            (b"numpy", b"ndarray") => Function::Ndarray,
            (b"numpy", b"dtype") => Function::Dtype,
            (module, name) => {
                let name = [module, b".", name].concat();
                return Err(format!("function `{}` is none a batch needs", name.escape_ascii()));
            }
        };
        self.stack.push(Value::Function(function));
        Ok(())
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        match self.stack.pop() {
            Some(Value::Mark) | None => Err("the stack is empty".to_owned()),
            Some(value) => Ok(value),
        }
    }

    /// Everything above the last mark, which goes too.
    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark =
            self.stack.iter().rposition(|value| *value == Value::Mark).ok_or("no mark on the stack")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        // Arrays' states hold a shape, so tuples of tuples occur; deeper ones do not, and could exhaust the call stack.
        let flat = |value: &Value| {
            value.is_fixed() || matches!(value, Value::Tuple(inner) if inner.iter().all(Value::is_plain))
        };
        if items.len() > 8 || !items.iter().all(flat) {
            return Err("a tuple that is no array's shape or state".to_owned());
        }
        self.stack.push(Value::Tuple(items));
        Ok(())
    }

    fn extend_list(&mut self) -> Result<(), String> {
        let items = self.pop_to_mark()?;
        if !items.iter().all(|item| matches!(item, Value::Int(_) | Value::Text(..))) {
            return Err("a list of something other than numbers and text".to_owned());
        }
        match self.stack.last_mut() {
            Some(Value::List(list)) if list.len() + items.len() <= LARGEST => list.extend(items),
            Some(Value::List(_)) => return Err("a list longer than a batch".to_owned()),
            _ => return Err("items without a list".to_owned()),
        }
        Ok(())
    }

    fn extend_dict(&mut self) -> Result<(), String> {
        let mut items = self.pop_to_mark()?.into_iter();
        let Some(Value::Dict(dict)) = self.stack.last_mut() else {
            return Err("items without a dictionary".to_owned());
        };
        while let Some(key) = items.next() {
            let value = items.next().ok_or("a key without a value")?;
            let nested = matches!(value, Value::Dict(_));
            if nested || !matches!(key, Value::Text(..)) || dict.len() >= 8 {
                return Err("a dictionary that is no batch".to_owned());
            }
            dict.push((key, value));
        }
        Ok(())
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        let top = self.stack.last().ok_or("the stack is empty")?;
        if self.memo.len() > LARGEST {
            return Err("more values than a batch has".to_owned());
        }
        // Nothing else is ever recalled in these files, and a copy of something that grows would be wrong.
        if top.is_fixed() {
            self.memo.insert(slot, top.clone());
        } else {
            self.memo.remove(&slot);
        }
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let value =
            self.memo.get(&slot).ok_or_else(|| format!("memo {slot} holds nothing that a batch recalls"))?;
        self.stack.push(value.clone());
        Ok(())
    }

    /// `function(*arguments)`, for the two calls there are.
    fn construct(&mut self) -> Result<(), String> {
        let arguments = self.pop()?;
        let (Value::Function(function), Value::Tuple(arguments)) = (self.pop()?, arguments) else {
            return Err("a call of no function".to_owned());
        };
        let value = match (function, &arguments[..]) {
            (
                Function::Reconstruct,
                [Value::Function(Function::Ndarray), Value::Tuple(shape), Value::Text(b"b", _)],
            ) if shape[..] == [Value::Int(0)] => Value::Blank,
            (Function::Dtype, [Value::Text(b"u1", _), Value::Int(0), Value::Int(1)]) => Value::Dtype,
            (function, _) => return Err(format!("{function:?} with arguments that make no array of bytes")),
        };
        self.stack.push(value);
        Ok(())
    }

    /// `object.__setstate__(state)`, for the two objects there are.
    fn build(&mut self) -> Result<(), String> {
        let Value::Tuple(state) = self.pop()? else { return Err("a state that is no tuple".to_owned()) };
        let object = self.pop()?;
        let value = match (object, &state[..]) {
            (
                Value::Dtype,
                [
                    Value::Int(3),
                    Value::Text(b"|", _),
                    Value::None,
                    Value::None,
                    Value::None,
                    Value::Int(-1),
                    Value::Int(-1),
                    Value::Int(0),
                ],
            ) => Value::Dtype,
            (
                Value::Blank,
                [
                    Value::Int(1),
                    Value::Tuple(shape),
                    Value::Dtype,
                    Value::Bool(fortran),
                    Value::Text(data, offset),
                ],
            ) => {
                let [Value::Int(rows), Value::Int(columns)] = shape[..] else {
                    return Err("an array that has not two axes".to_owned());
                };
                let (Ok(rows), Ok(columns)) = (usize::try_from(rows), usize::try_from(columns)) else {
                    return Err(format!("an array of {rows} x {columns}"));
                };
                if rows.checked_mul(columns) != Some(data.len()) {
                    return Err(format!("{} bytes for an array of {rows} x {columns}", data.len()));
                }
                Value::Array { shape: [rows, columns], fortran: *fortran, data, offset: *offset }
            }
            _ => return Err("a state that is neither an array's nor a dtype's".to_owned()),
        };
        self.stack.push(value);
        Ok(())
    }
}

/// Picks labels and pixels out of the dictionary.
fn batch(value: Value<'_>) -> Result<PickledBatch<'_>, String> {
    let Value::Dict(entries) = value else { return Err("no dictionary".to_owned()) };
    let (mut labels, mut array) = (None, None);
    for (key, value) in entries {
        let Value::Text(key, _) = key else { continue };
        match (key, value) {
            (b"labels", Value::List(list)) if labels.is_none() => {
                let numbers: Option<Vec<i64>> =
                    list.iter().map(|item| if let Value::Int(n) = item { Some(*n) } else { None }).collect();
                labels = Some(numbers.ok_or("labels that are no numbers")?);
            }
            (b"data", Value::Array { shape, fortran, data, offset }) if array.is_none() => {
                array = Some((shape, fortran, data, offset));
            }
            (b"batch_label", Value::Text(..)) | (b"filenames", Value::List(_)) => {}
            (key, _) => {
                return Err(format!("entry `{}` is none of a batch, or there twice", key.escape_ascii()));
            }
        }
    }
    let labels = labels.ok_or("no entry `labels`")?;
    let (shape, fortran, data, offset) = array.ok_or("no entry `data`")?;
    if labels.len() != shape[0] {
        return Err(format!("{} labels for {} rows", labels.len(), shape[0]));
    }
    Ok(PickledBatch { labels, shape, fortran, data, offset })
}
