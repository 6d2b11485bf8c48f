//! The pickles that `torch.save` writes, read without executing anything.
//!
//! A pickle is a program for a machine with a stack. Python's own machine may import any module and call anything in
//! it. This one knows the instructions that `torch.save` uses, and of names only those in [`GLOBALS`]: whatever else a
//! file asks for is refused by its name.
//!
//! <https://github.com/python/cpython/blob/main/Lib/pickletools.py> describes the instructions.

use anyhow::{Context, Result, bail, ensure};
use std::rc::Rc;
use tch::Kind;

/// The names that a checkpoint may ask for, and what they stand for.
const GLOBALS: [(&str, &str, Global); 10] = [
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch", "FloatStorage", Global::Storage(Kind::Float)),
    ("torch", "HalfStorage", Global::Storage(Kind::Half)),
    ("torch", "BFloat16Storage", Global::Storage(Kind::BFloat16)),
    ("torch", "DoubleStorage", Global::Storage(Kind::Double)),
    ("torch", "LongStorage", Global::Storage(Kind::Int64)),
    ("torch", "IntStorage", Global::Storage(Kind::Int)),
    ("torch", "ByteStorage", Global::Storage(Kind::Uint8)),
    ("torch", "BoolStorage", Global::Storage(Kind::Bool)),
];

/// A value in a pickle. What holds other values is an index into [`Pickle`], so that a value that holds itself, or one
/// in a million others, is no danger to whoever copies or drops it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    /// A tuple, a list, a dict, a tensor or its storage.
    Object(usize),
    Global(Global),
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Global {
    OrderedDict,
    RebuildTensor,
    /// Of numbers of a kind.
    Storage(Kind),
}

/// What a [`Value`] may be an index of.
#[derive(Clone, Debug, PartialEq)]
enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Storage(Storage),
    Tensor(StoredTensor),
}

/// Numbers in a file of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    pub kind: Kind,
    /// The name of the file.
    pub key: Rc<str>,
    /// How many numbers there are.
    pub numel: i64,
}

/// Which numbers of a storage a tensor has. Nothing is promised about the sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    pub storage: Storage,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub stride: Vec<i64>,
}

/// What a pickle holds.
#[derive(Debug)]
pub struct Pickle {
    objects: Vec<Object>,
    /// What the file is about.
    pub root: Value,
}

impl Pickle {
    /// Reads a pickle. It takes up to a hundred times the memory of `bytes`.
    ///
    /// # Errors
    /// One sentence: it asks for a name or an instruction that no checkpoint of nanoGPT's needs, or is damaged.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut machine = Machine { rest: bytes, ..Machine::default() };
        loop {
            let at = bytes.len() - machine.rest.len();
            let instruction = machine.byte()?;
            if instruction == b'.' {
                let root = machine.pop()?;
                return Ok(Self { objects: machine.objects, root });
            }
            machine
                .execute(instruction)
                .with_context(|| format!("the instruction at byte {at} of its pickle"))?;
        }
    }

    /// The entries of a dict; `None` if `value` is none.
    pub fn entries(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match self.object(value)? {
            Object::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// What a dict has under a name; the last, if there are several, as in Python.
    pub fn get(&self, dict: &Value, key: &str) -> Option<&Value> {
        let has_key =
            |(name, _): &&(Value, Value)| matches!(name, Value::Text(text) if **text == *key);
        self.entries(dict)?.iter().rev().find(has_key).map(|(_, value)| value)
    }

    /// The tensor that a value is.
    pub fn tensor(&self, value: &Value) -> Option<&StoredTensor> {
        match self.object(value)? {
            Object::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    fn object(&self, value: &Value) -> Option<&Object> {
        match value {
            Value::Object(index) => self.objects.get(*index),
            _ => None,
        }
    }
}

/// The machine: what is still to be read, and what it has read.
#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    /// How high the stack was at each mark.
    marks: Vec<usize>,
    /// What was set aside, by its number.
    memo: Vec<Value>,
    objects: Vec<Object>,
}

const CUT: &str = "its pickle is cut off";
const DAMAGED: &str = "it does not fit what is on the stack: the pickle is damaged";

impl<'a> Machine<'a> {
    fn execute(&mut self, instruction: u8) -> Result<()> {
        let value = match instruction {
            0x80 => {
                let protocol = self.byte()?;
                ensure!(protocol == 2, "this is protocol {protocol}, and torch.save writes 2");
                return Ok(());
            }
            b'q' | b'r' => {
                let number = self.number(instruction == b'r')?;
                return self.memorize(number);
            }
            b'h' | b'j' => {
                let number = self.number(instruction == b'j')?;
                self.memo.get(number).cloned().context(DAMAGED)?
            }
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'a' => return self.append(1),
            b'e' => return self.append_all(),
            b's' => return self.set_item(),
            b'u' => return self.set_items(),
            b'b' => return self.build(),
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            0x8a => Value::Int(self.long()?),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            b'X' => self.text()?,
            b'c' => self.global()?,
            b')' => self.object(Object::Tuple(Vec::new())),
            b']' => self.object(Object::List(Vec::new())),
            b'}' => self.object(Object::Dict(Vec::new())),
            0x85..=0x87 => self.tuple_of(usize::from(instruction - 0x84))?,
            b't' => {
                let items = self.since_mark()?;
                self.object(Object::Tuple(items))
            }
            b'Q' => self.storage()?,
            b'R' => self.call()?,
            other => bail!("{other:#04x} is none that torch.save writes"),
        };
        self.stack.push(value);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk().context(CUT)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n).context(CUT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a str> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').context(CUT)?;
        let line = std::str::from_utf8(self.take(end)?).context("it has a name that is no text")?;
        self.byte()?;
        Ok(line)
    }

    /// In a byte, or in four.
    fn number(&mut self, is_long: bool) -> Result<usize> {
        Ok(match is_long {
            true => u32::from_le_bytes(self.array()?) as usize,
            false => self.byte()?.into(),
        })
    }

    /// Python counts what it sets aside, so that no place is left out.
    fn memorize(&mut self, number: usize) -> Result<()> {
        let value = self.stack.last().context(DAMAGED)?.clone();
        ensure!(number <= self.memo.len(), DAMAGED);
        if number == self.memo.len() {
            self.memo.push(value);
        } else {
            self.memo[number] = value;
        }
        Ok(())
    }

    fn long(&mut self) -> Result<i64> {
        let n = self.byte()?;
        let bytes = self.take(n.into())?;
        ensure!(bytes.len() <= 8, "it is a number of {n} bytes, and here they have up to 8");
        let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut all = [sign; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(all))
    }

    fn text(&mut self) -> Result<Value> {
        let n = u32::from_le_bytes(self.array()?);
        let text = std::str::from_utf8(self.take(n as usize)?).context("it is no text")?;
        Ok(Value::Text(text.into()))
    }

    fn global(&mut self) -> Result<Value> {
        let (module, name) = (self.line()?, self.line()?);
        let known = GLOBALS.iter().find(|known| (known.0, known.1) == (module, name));
        let Some((_, _, global)) = known else {
            let asked: String = format!("{module}.{name}").chars().take(80).collect();
            bail!(
                "it asks for {asked:?}, which no checkpoint of nanoGPT's needs and which could do anything in Python: \
                 nothing was executed"
            )
        };
        Ok(Value::Global(*global))
    }

    fn object(&mut self, object: Object) -> Value {
        self.objects.push(object);
        Value::Object(self.objects.len() - 1)
    }

    fn pop(&mut self) -> Result<Value> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > bottom, DAMAGED);
        self.stack.pop().context(DAMAGED)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().context(DAMAGED)?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple_of(&mut self, n: usize) -> Result<Value> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        items.reverse();
        Ok(self.object(Object::Tuple(items)))
    }

    /// The object on top of the stack.
    fn top(&mut self) -> Result<&mut Object> {
        let Some(Value::Object(index)) = self.stack.last() else { bail!(DAMAGED) };
        self.objects.get_mut(*index).context(DAMAGED)
    }

    fn append(&mut self, n: usize) -> Result<()> {
        let items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
        let Object::List(list) = self.top()? else { bail!(DAMAGED) };
        list.extend(items);
        Ok(())
    }

    fn append_all(&mut self) -> Result<()> {
        let items = self.since_mark()?;
        let Object::List(list) = self.top()? else { bail!(DAMAGED) };
        list.extend(items);
        Ok(())
    }

    fn set_item(&mut self) -> Result<()> {
        let (value, key) = (self.pop()?, self.pop()?);
        let Object::Dict(dict) = self.top()? else { bail!(DAMAGED) };
        dict.push((key, value));
        Ok(())
    }

    fn set_items(&mut self) -> Result<()> {
        let items = self.since_mark()?;
        ensure!(items.len() % 2 == 0, DAMAGED);
        let Object::Dict(dict) = self.top()? else { bail!(DAMAGED) };
        dict.extend(items.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())));
        Ok(())
    }

    /// Attributes of an OrderedDict: PyTorch keeps the versions of its modules there. They are passed over.
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        ensure!(matches!(self.top()?, Object::Dict(_)), DAMAGED);
        Ok(())
    }

    fn tuple(&self, value: &Value) -> Result<&[Value]> {
        match value {
            Value::Object(index) => match self.objects.get(*index) {
                Some(Object::Tuple(items)) => Ok(items),
                _ => bail!(DAMAGED),
            },
            _ => bail!(DAMAGED),
        }
    }

    /// `('storage', type, key, device, numel)` becomes a storage.
    fn storage(&mut self) -> Result<Value> {
        let id = self.pop()?;
        let storage = match self.tuple(&id)? {
            [
                Value::Text(what),
                Value::Global(Global::Storage(kind)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(numel),
            ] if **what == *"storage" => Storage { kind: *kind, key: key.clone(), numel: *numel },
            _ => bail!(DAMAGED),
        };
        Ok(self.object(Object::Storage(storage)))
    }

    /// The two calls there are: an empty OrderedDict, and a tensor of a storage.
    fn call(&mut self) -> Result<Value> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let arguments = self.tuple(&arguments)?;
        let object = match (callee, arguments) {
            (Value::Global(Global::OrderedDict), []) => Object::Dict(Vec::new()),
            (
                Value::Global(Global::RebuildTensor),
                [Value::Object(storage), Value::Int(offset), shape, stride, ..],
            ) => {
                let Some(Object::Storage(storage)) = self.objects.get(*storage) else {
                    bail!(DAMAGED)
                };
                Object::Tensor(StoredTensor {
                    storage: storage.clone(),
                    offset: *offset,
                    shape: self.sizes(shape)?,
                    stride: self.sizes(stride)?,
                })
            }
            _ => bail!(DAMAGED),
        };
        Ok(self.object(object))
    }

    fn sizes(&self, tuple: &Value) -> Result<Vec<i64>> {
        let size = |value: &Value| match value {
            Value::Int(size) => Ok(*size),
            _ => bail!(DAMAGED),
        };
        let sizes = self.tuple(tuple)?;
        ensure!(sizes.len() <= 8, "it is a tensor of {} dimensions", sizes.len());
        sizes.iter().map(size).collect()
    }
}
