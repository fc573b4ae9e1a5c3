//! MessagePack, read by hand and leniently: whatever the crate accepts has to be the one encoding of
//! what stands here.
//!
//! An object of the protocol is a tree whose byte strings often hold trees again. A path leads
//! through both.

use crate::forge::Value;

/// Reads one value of the types the protocol uses, in whatever form, and nothing after it.
pub fn read(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = value(&mut rest, 0)?;
    rest.is_empty().then_some(value)
}

/// Whether the bytes are the one encoding of what they say.
pub fn is_canonical(bytes: &[u8]) -> bool {
    read(bytes).is_some_and(|value| value.encode() == bytes)
}

/// The elements of a list, also of one inside a byte string, there perhaps behind a magic.
pub fn items(value: &Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items.clone()),
        Value::Bin(bytes) => inside(bytes).map(|(_, items)| items),
        _ => None,
    }
}

/// The list that `value` is, or has inside, with other elements.
pub fn with_items(value: &Value, items: Vec<Value>) -> Value {
    let list = Value::Array(items);
    match value {
        Value::Bin(bytes) => {
            let magic = inside(bytes).map_or(0, |(magic, _)| magic);
            Value::Bin([&bytes[..magic], &list.encode()].concat())
        }
        _ => list,
    }
}

/// The list in a byte string, and the length of the magic before it.
fn inside(bytes: &[u8]) -> Option<(usize, Vec<Value>)> {
    let magic = if bytes.starts_with(b"TM") { 4 } else { 0 };
    match read(bytes.get(magic..)?)? {
        Value::Array(items) if !items.is_empty() => Some((magic, items)),
        _ => None,
    }
}

/// The value at a path.
pub fn at(value: &Value, path: &[usize]) -> Option<Value> {
    match path.split_first() {
        None => Some(value.clone()),
        Some((index, rest)) => at(items(value)?.get(*index)?, rest),
    }
}

/// The byte string at a path.
pub fn bytes_at(value: &Value, path: &[usize]) -> Option<Vec<u8>> {
    match at(value, path)? {
        Value::Bin(bytes) => Some(bytes),
        _ => None,
    }
}

/// The tree with another value at a path; `None` where the path leads nowhere.
pub fn put(value: &Value, path: &[usize], new: Value) -> Option<Value> {
    let Some((index, rest)) = path.split_first() else {
        return Some(new);
    };
    let mut items = items(value)?;
    let changed = put(items.get(*index)?, rest, new)?;
    items[*index] = changed;
    Some(with_items(value, items))
}

/// The path of every value in the tree, the root's included.
pub fn paths(value: &Value) -> Vec<Vec<usize>> {
    let mut out = Vec::new();
    collect(value, &mut Vec::new(), &mut out);
    out
}

fn collect(value: &Value, here: &mut Vec<usize>, out: &mut Vec<Vec<usize>>) {
    out.push(here.clone());
    for (index, item) in items(value).unwrap_or_default().iter().enumerate() {
        here.push(index);
        collect(item, here, out);
        here.pop();
    }
}

const DEPTH: usize = 16;

fn value(rest: &mut &[u8], depth: usize) -> Option<Value> {
    if depth > DEPTH {
        return None;
    }
    let marker = number(rest, 1)? as u8;
    Some(match marker {
        0x00..=0x7f => Value::Uint(marker.into()),
        0x90..=0x9f => list(rest, (marker & 0x0f).into(), depth)?,
        0xa0..=0xbf => Value::Str(take(rest, (marker & 0x1f).into())?),
        0xc0 => Value::Nil,
        0xc2 | 0xc3 => Value::Bool(marker == 0xc3),
        0xc4..=0xc6 => Value::Bin(sized(rest, marker - 0xc4)?),
        0xcc..=0xcf => Value::Uint(number(rest, 1 << (marker - 0xcc))?),
        0xd9..=0xdb => Value::Str(sized(rest, marker - 0xd9)?),
        0xdc | 0xdd => {
            let len = number(rest, 2 << (marker - 0xdc))?;
            list(rest, len, depth)?
        }
        _ => return None,
    })
}

fn list(rest: &mut &[u8], len: u64, depth: usize) -> Option<Value> {
    let mut items = Vec::new();
    for _ in 0..len {
        items.push(value(rest, depth + 1)?);
    }
    Some(Value::Array(items))
}

fn sized(rest: &mut &[u8], width: u8) -> Option<Vec<u8>> {
    let len = number(rest, 1 << width)?;
    take(rest, len)
}

fn take(rest: &mut &[u8], len: u64) -> Option<Vec<u8>> {
    let (taken, left) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = left;
    Some(taken.to_vec())
}

fn number(rest: &mut &[u8], width: u64) -> Option<u64> {
    let bytes = take(rest, width)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}
