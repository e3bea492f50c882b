//! What a pickle describes, without doing what it says.
//!
//! A pickle is a program for a stack machine that may call any Python function. This one knows the calls that rebuild
//! tensors and dictionaries and makes nothing else: any other object stays opaque, whatever is put into it later. Each
//! object is built once, however often it is referred to, so that memory follows the length of the pickle.

use std::collections::HashMap;

use super::refusal::Refusal;

/// Most objects (lists, dictionaries, tensors, ...) that a pickle may build; plain numbers and texts are none.
const MOST_OBJECTS: usize = 1 << 22;

/// Functions that run code, start programs or reach for files. None is called in any case; a file that names one was
/// not made to hold weights, and its user should know.
const HOSTILE_MODULES: [&str; 29] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "pty",
    "shutil",
    "socket",
    "ctypes",
    "importlib",
    "imp",
    "pkgutil",
    "runpy",
    "code",
    "codeop",
    "commands",
    "pip",
    "pdb",
    "bdb",
    "timeit",
    "profile",
    "cProfile",
    "marshal",
    "webbrowser",
    "multiprocessing",
    "asyncio",
    "urllib",
    "requests",
    "operator.attrgetter",
];

const BUILTINS: [&str; 3] = ["builtins", "__builtin__", "__builtins__"];

const HOSTILE_BUILTINS: [&str; 12] = [
    "eval",
    "exec",
    "execfile",
    "compile",
    "open",
    "file",
    "input",
    "apply",
    "breakpoint",
    "__import__",
    "globals",
    "setattr",
];

/// A Python value; objects are in [`Pickle::objects`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Int(i64),
    Text(&'a str),
    /// A number or bytes, which nothing here looks at.
    Other,
    Object(usize),
}

/// A Python object, as far as it matters.
#[derive(Debug)]
pub(super) enum Object<'a> {
    /// A tuple, list or set.
    Sequence(Vec<Value<'a>>),
    Dictionary(Vec<(Value<'a>, Value<'a>)>),
    /// A `torch.nn.Module`: what its state dict would hold.
    Module(Vec<(Value<'a>, Value<'a>)>),
    Tensor(View<'a>),
    Storage(Storage<'a>),
    /// A function or class.
    Global(&'a str, &'a str),
    /// What calling something would give; nothing was called.
    Opaque,
}

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    BF16,
    /// Integers or truth values.
    Integer,
    /// Complex, quantised and other numbers.
    Other,
}

impl Kind {
    fn of_storage(class: &str) -> Self {
        match class {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "LongStorage" | "IntStorage" | "ShortStorage" | "CharStorage" | "ByteStorage" | "BoolStorage" => {
                Self::Integer
            }
            _ => Self::Other,
        }
    }

    /// Bytes of an element of a storage.
    fn element_size(class: &str) -> Option<usize> {
        match class {
            "DoubleStorage" | "LongStorage" | "ComplexFloatStorage" => Some(8),
            "FloatStorage" | "IntStorage" | "QInt32Storage" => Some(4),
            "HalfStorage" | "BFloat16Storage" | "ShortStorage" => Some(2),
            "CharStorage" | "ByteStorage" | "BoolStorage" | "UntypedStorage" | "QInt8Storage" | "QUInt8Storage" => {
                Some(1)
            }
            "ComplexDoubleStorage" => Some(16),
            _ => None,
        }
    }

    fn of_type(name: &str) -> Self {
        match name {
            "float64" => Self::F64,
            "float32" => Self::F32,
            "float16" => Self::F16,
            "bfloat16" => Self::BF16,
            "uint8" | "uint16" | "uint32" | "uint64" | "int8" | "int16" | "int32" | "int64" | "bool" => Self::Integer,
            _ => Self::Other,
        }
    }
}

/// Bytes that tensors are views of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    key: &'a str,
    kind: Kind,
    /// Bytes of an element; none if its class is not known.
    pub(super) element_size: Option<usize>,
    /// Number of elements.
    elements: usize,
    /// First element of the storage that this one is a part of.
    start: usize,
}

/// A tensor: a window on a storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct View<'a> {
    pub(super) storage: &'a str,
    /// Elements of the storage.
    pub(super) elements: usize,
    pub(super) kind: Kind,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) root: Value<'a>,
    pub(super) objects: Vec<Object<'a>>,
    /// Storages by their keys.
    pub(super) storages: HashMap<&'a str, Storage<'a>>,
}

impl<'a> Pickle<'a> {
    /// The object that a value is.
    pub(super) fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        match value {
            Value::Object(object) => self.objects.get(object),
            _ => None,
        }
    }

    /// The items of a tuple, list or set.
    pub(super) fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.object(value) {
            Some(Object::Sequence(items)) => Some(items),
            _ => None,
        }
    }

    /// What a dictionary has under a key.
    pub(super) fn get(&self, value: Value<'a>, wanted: &str) -> Option<Value<'a>> {
        match self.object(value) {
            Some(Object::Dictionary(entries)) => lookup(entries, wanted),
            _ => None,
        }
    }
}

/// The last of the entries with this key, which is the one that Python keeps.
fn lookup<'a>(entries: &[(Value<'a>, Value<'a>)], wanted: &str) -> Option<Value<'a>> {
    let found = entries.iter().rfind(|(key, _)| matches!(key, Value::Text(text) if *text == wanted));
    found.map(|(_, value)| *value)
}

/// Reads one pickle from the beginning of `bytes`; also how many bytes it took.
///
/// # Errors
/// A pickle that ends early or is none, or that names a function that runs code.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, usize), Refusal> {
    let pickle = Pickle { root: Value::None, objects: Vec::new(), storages: HashMap::new() };
    let mut machine = Machine { bytes, at: 0, pickle, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    while machine.step()? {}
    machine.pickle.root = machine.pop()?;
    Ok((machine.pickle, machine.at))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    pickle: Pickle<'a>,
    stack: Vec<Value<'a>>,
    /// Heights of the stack where lists of arguments begin.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
}

impl<'a> Machine<'a> {
    /// Carries out one operation; whether there are more.
    fn step(&mut self) -> Result<bool, Refusal> {
        let [operation] = self.array()?;
        match operation {
            b'.' => return Ok(false),
            // Protocol and frames say nothing about values.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Int(1)),
            0x89 => self.stack.push(Value::Int(0)),
            b'I' | b'L' => {
                let line = self.line()?;
                self.stack.push(line.trim_end_matches('L').parse().map_or(Value::Other, Value::Int));
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            b'K' => {
                let [number] = self.array()?;
                self.stack.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            0x8a => {
                let [length] = self.array()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?);
                self.long(length.into())?;
            }
            b'F' => {
                self.line()?;
                self.stack.push(Value::Other);
            }
            b'G' => self.passed_over(8)?,
            b'V' | b'S' => {
                let line = self.line()?;
                self.stack.push(Value::Text(line.trim_matches('\'')));
            }
            b'X' | b'T' | b'U' | 0x8c | 0x8d => self.text(operation)?,
            b'C' => {
                let [length] = self.array()?;
                self.passed_over(length.into())?;
            }
            b'B' => {
                let length = u32::from_le_bytes(self.array()?);
                self.passed_over(length.into())?;
            }
            0x8e | 0x96 => {
                let length = u64::from_le_bytes(self.array()?);
                self.passed_over(length)?;
            }
            _ => self.build(operation)?,
        }
        Ok(true)
    }

    fn build(&mut self, operation: u8) -> Result<(), Refusal> {
        match operation {
            b'(' => self.marks.push(self.stack.len()),
            b'0' => match self.marks.last() == Some(&self.stack.len()) {
                true => drop(self.marks.pop()),
                false => drop(self.pop()?),
            },
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b')' | b']' | 0x8f => self.push(Object::Sequence(Vec::new()))?,
            b'}' => self.push(Object::Dictionary(Vec::new()))?,
            b't' | b'l' | 0x91 => {
                let items = self.since_mark()?;
                self.push(Object::Sequence(items))?;
            }
            0x85..=0x87 => {
                let count = usize::from(operation - 0x84);
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Object::Sequence(items))?;
            }
            b'd' => {
                let items = self.since_mark()?;
                self.push(Object::Dictionary(pairs(&items)?))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set_items(&items)?;
            }
            _ => self.refer(operation)?,
        }
        Ok(())
    }

    fn refer(&mut self, operation: u8) -> Result<(), Refusal> {
        match operation {
            b'g' | b'h' | b'j' => {
                let index = self.index(operation == b'g', operation == b'h')?;
                let value = self.memo.get(&index).copied();
                self.stack.push(value.ok_or_else(|| damaged("it refers to a value that it does not have"))?);
            }
            b'p' | b'q' | b'r' => {
                let index = self.index(operation == b'p', operation == b'q')?;
                let top = self.top()?;
                self.memo.insert(index, top);
            }
            0x94 => {
                let (index, top) = (self.memo.len() as u32, self.top()?);
                self.memo.insert(index, top);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => self.global(module, name)?,
                _ => return Err(damaged("a function without a name")),
            },
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.since_mark()?;
                self.global(module, name)?;
                self.pop()?;
                self.push(Object::Opaque)?;
            }
            b'o' => {
                self.since_mark()?;
                self.push(Object::Opaque)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?;
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let value = self.call(function, arguments, 0)?;
                self.stack.push(value);
            }
            0x81 => {
                self.pop()?;
                self.pop()?;
                self.push(Object::Opaque)?;
            }
            0x92 => {
                for _ in 0..3 {
                    self.pop()?;
                }
                self.push(Object::Opaque)?;
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                self.set_state(object, state);
            }
            other => return Err(damaged(&format!("0x{other:02x} is no operation of a pickle that is read"))),
        }
        Ok(())
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Refusal> {
        let rest = &self.bytes[self.at..];
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len());
        let length = length.ok_or_else(|| damaged("its pickle ends early"))?;
        self.at += length;
        Ok(&rest[..length])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| damaged("its pickle ends early"))
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, Refusal> {
        let end = self.bytes[self.at..].iter().position(|byte| *byte == b'\n');
        let line = self.take(end.ok_or_else(|| damaged("its pickle ends early"))? as u64)?;
        self.take(1)?;
        std::str::from_utf8(line).map(|line| line.trim_end_matches('\r')).map_err(|_| damaged("a text is no UTF-8"))
    }

    fn text(&mut self, operation: u8) -> Result<(), Refusal> {
        let length = match operation {
            b'U' | 0x8c => u64::from(self.array::<1>()?[0]),
            0x8d => u64::from_le_bytes(self.array()?),
            _ => u64::from(u32::from_le_bytes(self.array()?)),
        };
        // Python 2 keeps bytes as texts.
        let value = std::str::from_utf8(self.take(length)?).map_or(Value::Other, Value::Text);
        self.stack.push(value);
        Ok(())
    }

    fn long(&mut self, length: u64) -> Result<(), Refusal> {
        let bytes = self.take(length)?;
        let value = match bytes.len() {
            0 => Value::Int(0),
            length @ 1..=8 => {
                let mut whole = [if bytes[length - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
                whole[..length].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(whole))
            }
            _ => Value::Other,
        };
        self.stack.push(value);
        Ok(())
    }

    fn passed_over(&mut self, length: u64) -> Result<(), Refusal> {
        self.take(length)?;
        self.stack.push(Value::Other);
        Ok(())
    }

    fn index(&mut self, is_text: bool, is_short: bool) -> Result<u32, Refusal> {
        match (is_text, is_short) {
            (true, _) => self.line()?.parse().map_err(|_| damaged("a reference that is no number")),
            (_, true) => Ok(self.array::<1>()?[0].into()),
            _ => Ok(u32::from_le_bytes(self.array()?)),
        }
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), Refusal> {
        if self.pickle.objects.len() >= MOST_OBJECTS {
            return Err(damaged(&format!("it describes more than {MOST_OBJECTS} objects")));
        }
        self.stack.push(Value::Object(self.pickle.objects.len()));
        self.pickle.objects.push(object);
        Ok(())
    }

    fn top(&self) -> Result<Value<'a>, Refusal> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack.get(floor..).and_then(<[_]>::last).copied().ok_or_else(|| damaged("a value is missing"))
    }

    fn pop(&mut self) -> Result<Value<'a>, Refusal> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>, Refusal> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or_else(|| damaged("a list without beginning"))?))
    }

    fn object_mut(&mut self, value: Value<'a>) -> Option<&mut Object<'a>> {
        match value {
            Value::Object(object) => self.pickle.objects.get_mut(object),
            _ => None,
        }
    }

    /// Puts items into the list on top. What an opaque object is given is not kept.
    fn append(&mut self, items: Vec<Value<'a>>) -> Result<(), Refusal> {
        let top = self.top()?;
        match self.object_mut(top) {
            Some(Object::Sequence(list)) => list.extend(items),
            Some(Object::Opaque) => {}
            _ => return Err(damaged("items for what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Result<(), Refusal> {
        let (top, items) = (self.top()?, pairs(items)?);
        match self.object_mut(top) {
            Some(Object::Dictionary(entries)) => entries.extend(items),
            Some(Object::Opaque) => {}
            _ => return Err(damaged("entries for what is no dictionary")),
        }
        Ok(())
    }

    fn global(&mut self, module: &'a str, name: &'a str) -> Result<(), Refusal> {
        let full = format!("{module}.{name}");
        let is_below =
            |hostile: &&str| full.strip_prefix(*hostile).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let is_builtin = BUILTINS.contains(&module) && HOSTILE_BUILTINS.contains(&name);
        if is_builtin || HOSTILE_MODULES.iter().any(is_below) {
            return Err(Refusal::Call(full));
        }
        self.push(Object::Global(module, name))
    }

    /// What a call of the few functions that are known would give.
    fn call(&mut self, function: Value<'a>, arguments: Value<'a>, depth: usize) -> Result<Value<'a>, Refusal> {
        let items = self.pickle.sequence(arguments).unwrap_or_default();
        let (&first, last) = (items.first().unwrap_or(&Value::None), items.get(2).copied());
        let object = match self.pickle.object(function) {
            Some(Object::Global("collections", "OrderedDict")) => {
                let pair = |item: &Value<'a>| match self.pickle.sequence(*item) {
                    Some(&[key, value]) => Some((key, value)),
                    _ => None,
                };
                Object::Dictionary(self.pickle.sequence(first).unwrap_or_default().iter().filter_map(pair).collect())
            }
            Some(Object::Global("collections", "defaultdict")) => Object::Dictionary(Vec::new()),
            Some(Object::Global("builtins" | "__builtin__", "set" | "frozenset" | "list" | "tuple")) => {
                Object::Sequence(self.pickle.sequence(first).unwrap_or_default().to_vec())
            }
            Some(Object::Global("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_tensor_v3")) => {
                Object::Tensor(self.view(items)?)
            }
            Some(Object::Global("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")) => {
                return Ok(first);
            }
            Some(Object::Global("torch._tensor", "_rebuild_from_type_v2")) if depth == 0 => {
                return self.call(first, last.unwrap_or(Value::None), depth + 1);
            }
            _ => Object::Opaque,
        };
        self.push(object)?;
        self.pop()
    }

    /// Sets attributes. Only those of a module matter: a model that was saved whole.
    fn set_state(&mut self, object: Value<'a>, state: Value<'a>) {
        let tables = ["_parameters", "_buffers", "_modules"].map(|table| self.pickle.get(state, table));
        if let [Some(parameters), Some(buffers), Some(modules)] = tables
            && matches!(self.object_mut(object), Some(Object::Opaque))
        {
            let unsaved = self.pickle.get(state, "_non_persistent_buffers_set");
            let unsaved: Vec<&str> = unsaved.and_then(|set| self.pickle.sequence(set)).map_or(Vec::new(), |names| {
                names.iter().filter_map(|name| if let Value::Text(name) = name { Some(*name) } else { None }).collect()
            });
            let is_saved = |key: &Value<'a>| !matches!(key, Value::Text(name) if unsaved.contains(name));
            let entries = |table| match self.pickle.object(table) {
                Some(Object::Dictionary(entries)) => entries.as_slice(),
                _ => &[],
            };
            let kept = entries(buffers).iter().filter(|(key, _)| is_saved(key));
            let all = entries(parameters).iter().chain(kept).chain(entries(modules)).copied().collect();
            if let Some(place) = self.object_mut(object) {
                *place = Object::Module(all);
            }
        }
    }

    /// `('storage', class, key, location, elements, view)`, where `view` is None or `(key, offset, elements)`.
    fn storage(&mut self, id: Value<'a>) -> Result<(), Refusal> {
        let Some(&[Value::Text("storage"), class, key, _, elements, ref view @ ..]) = self.pickle.sequence(id) else {
            return Err(damaged("a storage that is none"));
        };
        let (Some(Object::Global(_, class)), Value::Text(key)) = (self.pickle.object(class), key) else {
            return Err(damaged("a storage without class or key"));
        };
        let start = match view.first().and_then(|view| self.pickle.sequence(*view)) {
            Some(&[_, offset, _]) => size(offset)?,
            _ => 0,
        };
        let (kind, element_size) = (Kind::of_storage(class), Kind::element_size(class));
        let storage = Storage { key, kind, element_size, elements: size(elements)?, start };
        self.pickle.storages.insert(key, storage);
        self.push(Object::Storage(storage))
    }

    /// The window that `(storage, offset, shape, strides, ...)` describes.
    fn view(&self, arguments: &[Value<'a>]) -> Result<View<'a>, Refusal> {
        let &[storage, offset, shape, strides, ref rest @ ..] = arguments else {
            return Err(damaged("a tensor without storage or shape"));
        };
        let Some(Object::Storage(storage)) = self.pickle.object(storage) else {
            return Err(damaged("a tensor without storage"));
        };
        let sizes = |value| match self.pickle.sequence(value) {
            Some(items) => items.iter().map(|item| size(*item)).collect::<Result<Vec<_>, _>>(),
            None => Err(damaged("a tensor without shape")),
        };
        let kind = match rest.get(2).and_then(|kind| self.pickle.object(*kind)) {
            Some(Object::Global("torch", name)) => Kind::of_type(name),
            _ => storage.kind,
        };
        let offset = size(offset)?.checked_add(storage.start).ok_or_else(|| damaged("a tensor outside its storage"))?;
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        match shape.len() == strides.len() {
            true => Ok(View { storage: storage.key, elements: storage.elements, kind, offset, shape, strides }),
            false => Err(damaged("a tensor with another number of strides than dimensions")),
        }
    }
}

fn size(value: Value<'_>) -> Result<usize, Refusal> {
    match value {
        Value::Int(number) => usize::try_from(number).map_err(|_| damaged("a size below zero")),
        _ => Err(damaged("a size that is no number")),
    }
}

fn pairs<'a>(items: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, Refusal> {
    match items.as_chunks() {
        (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        _ => Err(damaged("a key without value")),
    }
}

fn damaged(why: &str) -> Refusal {
    Refusal::Damaged(why.to_string())
}
