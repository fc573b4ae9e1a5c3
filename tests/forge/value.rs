//! MessagePack values, written by hand: the one right encoding, and the wrong ones.

/// A MessagePack value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil,
    Bool(bool),
    Uint(u64),
    Str(Vec<u8>),
    Bin(Vec<u8>),
    Array(Vec<Value>),
    /// Bytes written as they are: whatever the others cannot express.
    Raw(Vec<u8>),
}

/// Text.
pub fn text(text: &str) -> Value {
    Value::Str(text.as_bytes().to_vec())
}

/// A byte string.
pub fn bin(bytes: impl AsRef<[u8]>) -> Value {
    Value::Bin(bytes.as_ref().to_vec())
}

/// A list.
pub fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(values.into_iter().collect())
}

impl Value {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.push(0xc0),
            Self::Bool(value) => out.push(0xc2 + u8::from(*value)),
            Self::Uint(n) => write_uint(out, *n),
            Self::Str(bytes) => {
                write_len(
                    out,
                    bytes.len(),
                    Some((0xa0, 31)),
                    [Some(0xd9), Some(0xda), Some(0xdb)],
                );
                out.extend_from_slice(bytes);
            }
            Self::Bin(bytes) => {
                write_len(out, bytes.len(), None, [Some(0xc4), Some(0xc5), Some(0xc6)]);
                out.extend_from_slice(bytes);
            }
            Self::Array(values) => {
                write_len(
                    out,
                    values.len(),
                    Some((0x90, 15)),
                    [None, Some(0xdc), Some(0xdd)],
                );
                values.iter().for_each(|value| value.write(out));
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// The elements of an array.
    pub fn items(&mut self) -> &mut Vec<Value> {
        match self {
            Self::Array(items) => items,
            other => panic!("no array: {other:?}"),
        }
    }

    /// The value at a path of array positions.
    pub fn at(&self, path: &[usize]) -> &Value {
        path.iter().fold(self, |value, index| match value {
            Self::Array(items) => &items[*index],
            other => panic!("no array: {other:?}"),
        })
    }

    /// A copy with the value at `path` replaced.
    pub fn with(&self, path: &[usize], new: Value) -> Value {
        let Some((index, rest)) = path.split_first() else {
            return new;
        };
        let mut copy = self.clone();
        let old = &mut copy.items()[*index];
        *old = old.with(rest, new);
        copy
    }

    /// The path of every value in the tree, the root's included.
    pub fn paths(&self) -> Vec<Vec<usize>> {
        let mut out = vec![Vec::new()];
        if let Self::Array(items) = self {
            for (index, item) in items.iter().enumerate() {
                for mut path in item.paths() {
                    path.insert(0, index);
                    out.push(path);
                }
            }
        }
        out
    }

    /// Every longer encoding of the same value.
    pub fn longer(&self) -> Vec<Value> {
        let raw = |marker: u8, len: &[u8], rest: &[u8]| Value::Raw([&[marker], len, rest].concat());
        let sizes = |len: usize| {
            let n = len as u64;
            [
                (n < 0x100).then(|| vec![n as u8]),
                (n < 0x1_0000).then(|| (n as u16).to_be_bytes().to_vec()),
                Some((n as u32).to_be_bytes().to_vec()),
            ]
        };
        let shortest = self.encode();
        let all: Vec<Value> = match self {
            Self::Uint(n) => {
                let widths = [(0xcc, 1), (0xcd, 2), (0xce, 4), (0xcf, 8)];
                let fitting = widths
                    .into_iter()
                    .filter(|(_, width)| *width == 8 || *n < 1 << (8 * width));
                // The signed encodings of a positive number are no encoding of it here.
                let signed = (*n < 0x80).then(|| raw(0xd0, &[], &[*n as u8]));
                fitting
                    .map(|(marker, width)| raw(marker, &[], &n.to_be_bytes()[8 - width..]))
                    .chain(signed)
                    .collect()
            }
            Self::Str(bytes) => [0xd9, 0xda, 0xdb]
                .into_iter()
                .zip(sizes(bytes.len()))
                .filter_map(|(marker, len)| len.map(|len| raw(marker, &len, bytes)))
                .collect(),
            Self::Bin(bytes) => [0xc4, 0xc5, 0xc6]
                .into_iter()
                .zip(sizes(bytes.len()))
                .filter_map(|(marker, len)| len.map(|len| raw(marker, &len, bytes)))
                .collect(),
            Self::Array(items) => {
                let inner: Vec<u8> = items.iter().flat_map(Value::encode).collect();
                [0xdc, 0xdd]
                    .into_iter()
                    .zip(sizes(items.len()).into_iter().skip(1))
                    .filter_map(|(marker, len)| len.map(|len| raw(marker, &len, &inner)))
                    .collect()
            }
            Self::Nil | Self::Bool(_) | Self::Raw(_) => Vec::new(),
        };
        all.into_iter()
            .filter(|value| value.encode() != shortest)
            .collect()
    }

    /// Values of every other type, with what they are called.
    pub fn other_types(&self) -> Vec<(&'static str, Value)> {
        let mut out = Vec::new();
        let mut offer = |name, value: Value| {
            if std::mem::discriminant(&value) != std::mem::discriminant(self) {
                out.push((name, value));
            }
        };
        offer("nil", Value::Nil);
        offer("bool", Value::Bool(true));
        offer("number", Value::Uint(1));
        offer("list", list([]));
        match self {
            // The same bytes under the marker of the other kind of string.
            Self::Str(bytes) => offer("bin", Value::Bin(bytes.clone())),
            Self::Bin(bytes) => {
                offer("text", Value::Str(bytes.clone()));
                offer(
                    "numbers",
                    list(bytes.iter().map(|b| Value::Uint(u64::from(*b)))),
                );
            }
            _ => {
                offer("text", text("1"));
                offer("bin", bin([1]));
            }
        }
        offer("negative", Value::Raw(vec![0xff]));
        offer("float", Value::Raw(vec![0xca, 0x3f, 0x80, 0, 0]));
        offer("map", Value::Raw(vec![0x80]));
        offer("ext", Value::Raw(vec![0xd4, 1, 1]));
        offer("reserved", Value::Raw(vec![0xc1]));
        offer("nothing", Value::Raw(Vec::new()));
        out
    }
}

fn write_uint(out: &mut Vec<u8>, n: u64) {
    match n {
        0..=0x7f => out.push(n as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

fn write_len(out: &mut Vec<u8>, len: usize, fix: Option<(u8, usize)>, markers: [Option<u8>; 3]) {
    match (fix, markers) {
        (Some((base, most)), _) if len <= most => out.push(base | len as u8),
        (_, [Some(one), ..]) if len < 0x100 => out.extend_from_slice(&[one, len as u8]),
        (_, [_, Some(two), _]) if len < 0x1_0000 => {
            out.push(two);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        (_, [_, _, four]) => {
            out.push(four.unwrap());
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

/// A mutated encoding and what was done to it.
pub struct Mutant {
    pub label: String,
    pub bytes: Vec<u8>,
}

/// Every single-place change of `tree` that no valid object can have: each value left out, given
/// another type, or encoded otherwise; each list a value too long; fixed strings a byte too short
/// or too long; bytes after the end; and every truncation.
///
/// `lists` are the arrays of variable length, from which elements may go missing; `nilable` the
/// paths where `nil` may stand.
pub fn mutants(tree: &Value, lists: &[&[usize]], nilable: &[&[usize]]) -> Vec<Mutant> {
    let mut out = Vec::new();
    let mut add = |label: String, bytes: Vec<u8>| out.push(Mutant { label, bytes });
    for path in tree.paths() {
        let value = tree.at(&path);
        for (name, other) in value.other_types() {
            let legal = name == "nil" && nilable.contains(&&path[..])
                || name == "list" && lists.contains(&&path[..])
                // Leaving out an element of a list and its count is tried below; leaving out
                // only its bytes shifts the rest, which is tried here.
                || name == "nothing" && path.is_empty();
            if !legal {
                add(
                    format!("{path:?} as {name}"),
                    tree.with(&path, other).encode(),
                );
            }
        }
        for longer in value.longer() {
            add(
                format!("{path:?} longer"),
                tree.with(&path, longer).encode(),
            );
        }
        match value {
            Value::Bin(bytes) if matches!(bytes.len(), 16 | 24 | 32 | 55 | 64) => {
                let short = bin(&bytes[..bytes.len() - 1]);
                let long = bin([&bytes[..], &[0]].concat());
                add(
                    format!("{path:?} a byte short"),
                    tree.with(&path, short).encode(),
                );
                add(
                    format!("{path:?} a byte long"),
                    tree.with(&path, long).encode(),
                );
                add(
                    format!("{path:?} empty"),
                    tree.with(&path, bin([])).encode(),
                );
            }
            Value::Array(items) => {
                let mut more = items.clone();
                more.push(Value::Nil);
                add(
                    format!("{path:?} with one more"),
                    tree.with(&path, list(more)).encode(),
                );
                let fixed = !lists.contains(&&path[..]);
                for index in (0..items.len()).filter(|_| fixed) {
                    let mut fewer = items.clone();
                    fewer.remove(index);
                    let label = format!("{path:?} without {index}");
                    add(label, tree.with(&path, list(fewer)).encode());
                    let mut twice = items.clone();
                    twice.insert(index, items[index].clone());
                    let label = format!("{path:?} with {index} twice");
                    add(label, tree.with(&path, list(twice)).encode());
                }
            }
            _ => {}
        }
    }
    let whole = tree.encode();
    for tail in [&[0x00][..], &[0xc0], &[0x90], &whole] {
        add("trailing bytes".into(), [&whole[..], tail].concat());
    }
    for len in 0..whole.len() {
        add(format!("cut after {len}"), whole[..len].to_vec());
    }
    out
}
