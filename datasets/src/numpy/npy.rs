//! One array in NumPy's own format: a text that describes it, then its numbers.

use std::io::Read;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// NumPy writes at most 10,000 bytes of description unasked.
const MAX_DESCRIPTION: usize = 1 << 16;

/// More dimensions than this are no images.
const MAX_DIMENSIONS: usize = 8;

/// Numbers of one type in row-major order, little end first.
#[derive(Debug)]
pub(super) struct Array {
    /// As NumPy names it, without its byte order: `u1`, `f4`, `i8`.
    pub(super) kind: String,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

/// Reads an array from `length` bytes. Memory is taken for bytes that were read, not for those that are announced.
///
/// # Errors
/// What is wrong with it, and what helps.
pub(super) fn read(mut reader: impl Read, length: u64) -> Result<Array, String> {
    let mut start = [0; 8];
    read_exact(&mut reader, &mut start)?;
    let (magic, version) = (&start[..6], start[6]);
    if magic != MAGIC || !(1..=3).contains(&version) {
        return Err("is no array in NumPy's format: save it with numpy.save or numpy.savez".to_owned());
    }
    let mut size = [0; 4];
    let size_bytes = if version == 1 { 2 } else { 4 };
    read_exact(&mut reader, &mut size[..size_bytes])?;
    let size = u32::from_le_bytes(size) as usize;
    if size > MAX_DESCRIPTION {
        return Err(format!("announces a description of {size} bytes, more than {MAX_DESCRIPTION}: it is damaged"));
    }
    let mut text = vec![0; size];
    read_exact(&mut reader, &mut text)?;
    let description = std::str::from_utf8(&text).ok().and_then(Description::parse);
    let description = description.ok_or_else(|| {
        "has a description that is not understood (a structured type?): save a plain array of numbers".to_owned()
    })?;
    let item = description.item_size()?;
    let claimed = description.shape.iter().try_fold(item as u64, |bytes, side| bytes.checked_mul(*side as u64));
    let there = length.saturating_sub((8 + size_bytes + size) as u64);
    if claimed != Some(there) {
        let claimed = claimed.map_or_else(|| "more than 2^64".to_owned(), |claimed| claimed.to_string());
        let shape = &description.shape;
        return Err(format!("has shape {shape:?}, which takes {claimed} bytes, but {there} are there: copy it again"));
    }
    let mut bytes = Vec::new();
    reader.take(there).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    match bytes.len() as u64 == there {
        true => Ok(Array { kind: description.kind[1..].to_owned(), shape: description.shape, bytes }),
        false => Err("ends early: copy it again".to_owned()),
    }
}

fn read_exact(reader: &mut impl Read, bytes: &mut [u8]) -> Result<(), String> {
    reader.read_exact(bytes).map_err(|error| format!("cannot be read: {error}"))
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`
struct Description {
    /// Byte order, kind and size: `<f4`.
    kind: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Description {
    fn parse(text: &str) -> Option<Self> {
        let (mut kind, mut fortran_order, mut shape) = (None, None, None);
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
        while !rest.is_empty() {
            let (key, after) = quoted(rest)?;
            let after = after.trim_start().strip_prefix(':')?.trim_start();
            rest = match key {
                "descr" => {
                    let (value, after) = quoted(after)?;
                    kind = Some(value.to_owned());
                    after
                }
                "fortran_order" => {
                    let (value, after) = after.split_at(after.find([',', '}']).unwrap_or(after.len()));
                    fortran_order = Some(match value.trim() {
                        "True" => true,
                        "False" => false,
                        _ => return None,
                    });
                    after
                }
                "shape" => {
                    let (sides, after) = after.strip_prefix('(')?.split_once(')')?;
                    let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty());
                    // Python 2 wrote an L after numbers.
                    shape =
                        Some(sides.map(|side| side.trim_end_matches('L').parse().ok()).collect::<Option<Vec<_>>>()?);
                    after
                }
                _ => return None,
            };
            rest = rest.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        let (kind, shape) = (kind?, shape?);
        let is_plain = kind.len() >= 3 && kind.is_ascii() && shape.len() <= MAX_DIMENSIONS;
        is_plain.then_some(Self { kind, fortran_order: fortran_order?, shape })
    }

    /// Bytes of a number.
    fn item_size(&self) -> Result<usize, String> {
        let (kind, shape) = (&self.kind, &self.shape);
        let (order, name) = kind.split_at(1);
        let size = match name {
            "b1" | "u1" | "i1" => 1,
            "u2" | "i2" | "f2" => 2,
            "u4" | "i4" | "f4" => 4,
            "u8" | "i8" | "f8" => 8,
            _ if name.starts_with('O') => {
                return Err("holds Python objects, which are not read: save an array of numbers".to_owned());
            }
            _ => return Err(format!("is of type {kind}, expected numbers: convert it with astype before saving")),
        };
        if order == ">" && size > 1 {
            return Err(format!("is of type {kind}, big end first: convert it with astype('<{name}') before saving"));
        }
        let is_flat = shape.iter().filter(|side| **side > 1).count() <= 1;
        match self.fortran_order && !is_flat {
            true => Err("is in column-major order: save numpy.ascontiguousarray of it".to_owned()),
            false => Ok(size),
        }
    }
}

/// A text in quotes, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
    text[1..].split_once(quote)
}
