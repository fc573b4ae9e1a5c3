//! Changes to make to an honest object: of its bytes, and of the values in it.

use arbitrary::Arbitrary;
use bytes::Bytes;

use crate::forge::Value;
use crate::pack;

/// One change. Positions count modulo what is there.
#[derive(Arbitrary, Clone, Debug)]
pub enum Change {
    /// Turns a bit over.
    Flip { at: u16, bit: u8 },
    /// Replaces a byte.
    Set { at: u16, byte: u8 },
    /// Puts a byte in between.
    Insert { at: u16, byte: u8 },
    /// Takes bytes out.
    Remove { at: u16, len: u8 },
    /// Cuts the end off.
    Truncate { len: u16 },
    /// Puts bytes of another object over those that are there.
    Splice { of: u8, from: u16, len: u8, at: u16 },
    /// Puts the value that another object has in the same place.
    Same { of: u8, path: u16 },
    /// Puts a value that another object has anywhere.
    Other { of: u8, from: u16, path: u16 },
    /// Puts a number.
    Number { path: u16, number: u64 },
    /// Counts a number up or down.
    Count { path: u16, by: i8 },
    /// Turns a bit of a byte string over.
    Within { path: u16, at: u8, bit: u8 },
    /// Writes a value in a longer form.
    Longer { path: u16, form: u8 },
    /// Puts nothing.
    Nil { path: u16 },
    /// Takes an element out of a list.
    Drop { path: u16 },
    /// Puts an element into a list once more.
    Double { path: u16 },
}

impl Change {
    /// Makes the change to an object that begins with `magic` bytes of no structure. `stock` are
    /// honest objects of the same kind. What cannot be done is left out.
    pub fn apply(&self, object: &mut Vec<u8>, stock: &[Bytes], magic: usize) {
        if object.len() > magic {
            self.of_bytes(object, stock);
        }
        if let Some(tree) = object.get(magic..).and_then(pack::read)
            && let Some(tree) = self.of_values(&tree, stock, magic)
        {
            object.truncate(magic);
            object.extend(tree.encode());
        }
    }

    fn of_bytes(&self, object: &mut Vec<u8>, stock: &[Bytes]) {
        let size = object.len();
        let place = |at: &u16| usize::from(*at) % size;
        match self {
            Self::Flip { at, bit } => object[place(at)] ^= 1 << (bit % 8),
            Self::Set { at, byte } => object[place(at)] = *byte,
            Self::Insert { at, byte } => object.insert(usize::from(*at) % (size + 1), *byte),
            Self::Remove { at, len } => {
                let end = size.min(place(at) + usize::from(*len));
                object.drain(place(at)..end);
            }
            Self::Truncate { len } => object.truncate(place(len)),
            Self::Splice { of, from, len, at } => {
                let other = pick(stock, *of);
                let from = usize::from(*from) % other.len();
                let len = usize::from(*len)
                    .min(other.len() - from)
                    .min(size - place(at));
                object[place(at)..][..len].copy_from_slice(&other[from..][..len]);
            }
            _ => {}
        }
    }

    fn of_values(&self, tree: &Value, stock: &[Bytes], magic: usize) -> Option<Value> {
        let paths = pack::paths(tree);
        let other = |of: u8| pack::read(&pick(stock, of)[magic..]);
        match self {
            Self::Same { of, path } => {
                let path = pick(&paths, *path);
                pack::put(tree, path, pack::at(&other(*of)?, path)?)
            }
            Self::Other { of, from, path } => {
                let other = other(*of)?;
                let found = pack::at(&other, pick(&pack::paths(&other), *from))?;
                pack::put(tree, pick(&paths, *path), found)
            }
            Self::Number { path, number } => {
                pack::put(tree, pick(&paths, *path), Value::Uint(*number))
            }
            Self::Nil { path } => pack::put(tree, pick(&paths, *path), Value::Nil),
            Self::Count { path, by } => {
                let path = pick(&paths, *path);
                match pack::at(tree, path)? {
                    Value::Uint(number) => {
                        let counted = number.wrapping_add_signed((*by).into());
                        pack::put(tree, path, Value::Uint(counted))
                    }
                    _ => None,
                }
            }
            Self::Within { path, at, bit } => {
                let path = pick(&paths, *path);
                let (mut bytes, text) = match pack::at(tree, path)? {
                    Value::Bin(bytes) => (bytes, false),
                    Value::Str(bytes) => (bytes, true),
                    _ => return None,
                };
                let index = usize::from(*at) % bytes.len().max(1);
                *bytes.get_mut(index)? ^= 1 << (bit % 8);
                let changed = if text { Value::Str } else { Value::Bin };
                pack::put(tree, path, changed(bytes))
            }
            Self::Longer { path, form } => {
                let path = pick(&paths, *path);
                let forms = pack::at(tree, path)?.longer();
                let form = forms.get(usize::from(*form) % forms.len().max(1))?;
                pack::put(tree, path, form.clone())
            }
            Self::Drop { path } | Self::Double { path } => {
                let (last, list) = pick(&paths, *path).split_last()?;
                let whole = pack::at(tree, list)?;
                let mut items = pack::items(&whole)?;
                match self {
                    Self::Drop { .. } => drop(items.remove(*last)),
                    _ => items.insert(*last, items[*last].clone()),
                }
                pack::put(tree, list, pack::with_items(&whole, items))
            }
            _ => None,
        }
    }
}

/// One of several, of which there is at least one.
pub fn pick<T>(from: &[T], index: impl Into<usize>) -> &T {
    &from[index.into() % from.len()]
}

/// An honest object with changes made to it.
pub fn changed(object: &Bytes, changes: &[Change], stock: &[Bytes], magic: usize) -> Bytes {
    let mut bytes = object.to_vec();
    for change in changes {
        change.apply(&mut bytes, stock, magic);
    }
    bytes.into()
}
