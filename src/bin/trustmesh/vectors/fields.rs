//! The fields of a vector, read strictly: what is not of the documented form is unusable.

use std::fmt;

use bytes::Bytes;
use serde_json::Map;
use serde_json::Value as Json;
use trustmesh::proto::identity::KeyBytes;
use trustmesh::proto::signing::ObjectId;
use trustmesh::proto::time::Timestamp;

/// Why a file is no vector.
#[derive(Debug)]
pub struct Unusable(String);

impl Unusable {
    pub fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The fields of one JSON object.
#[derive(Clone, Copy)]
pub struct Fields<'a>(&'a Map<String, Json>);

impl<'a> Fields<'a> {
    pub fn new(json: &'a Json) -> Result<Self, Unusable> {
        let fields = json.as_object();
        fields
            .map(Self)
            .ok_or_else(|| Unusable::new("it is no JSON object"))
    }

    /// The field, when it is there and not `null`.
    pub fn get(&self, name: &str) -> Option<&'a Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The names of all fields.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str)
    }

    pub fn text(&self, name: &str) -> Result<&'a str, Unusable> {
        self.optional_text(name)?.ok_or_else(|| missing(name))
    }

    pub fn optional_text(&self, name: &str) -> Result<Option<&'a str>, Unusable> {
        let text = |value: &'a Json| value.as_str().ok_or_else(|| wrong(name, "a text"));
        self.get(name).map(text).transpose()
    }

    pub fn number(&self, name: &str) -> Result<u64, Unusable> {
        self.optional_number(name)?.ok_or_else(|| missing(name))
    }

    pub fn optional_number(&self, name: &str) -> Result<Option<u64>, Unusable> {
        let number = |value: &Json| value.as_u64().ok_or_else(|| wrong(name, "a number"));
        self.get(name).map(number).transpose()
    }

    pub fn time(&self, name: &str) -> Result<Timestamp, Unusable> {
        self.number(name).map(Timestamp::from_millis)
    }

    pub fn boolean(&self, name: &str) -> Result<bool, Unusable> {
        let value = self.get(name).ok_or_else(|| missing(name))?;
        value.as_bool().ok_or_else(|| wrong(name, "true or false"))
    }

    pub fn bytes(&self, name: &str) -> Result<Bytes, Unusable> {
        self.optional_bytes(name)?.ok_or_else(|| missing(name))
    }

    pub fn optional_bytes(&self, name: &str) -> Result<Option<Bytes>, Unusable> {
        let text = self.optional_text(name)?;
        text.map(|text| hex(text).ok_or_else(|| wrong(name, "lower-case hexadecimal")))
            .transpose()
    }

    pub fn array<const N: usize>(&self, name: &str) -> Result<[u8; N], Unusable> {
        let bytes = self.bytes(name)?;
        <[u8; N]>::try_from(&bytes[..]).map_err(|_| wrong(name, &format!("{N} bytes")))
    }

    pub fn key(&self, name: &str) -> Result<KeyBytes, Unusable> {
        self.array(name).map(KeyBytes)
    }

    pub fn optional_key(&self, name: &str) -> Result<Option<KeyBytes>, Unusable> {
        self.get(name).map(|_| self.key(name)).transpose()
    }

    pub fn id(&self, name: &str) -> Result<ObjectId, Unusable> {
        self.array(name).map(ObjectId)
    }

    pub fn optional_id(&self, name: &str) -> Result<Option<ObjectId>, Unusable> {
        self.get(name).map(|_| self.id(name)).transpose()
    }

    pub fn object(&self, name: &str) -> Result<Self, Unusable> {
        Self::new(self.get(name).ok_or_else(|| missing(name))?)
    }

    /// The byte strings of a list; none when it is absent.
    pub fn bytes_list(&self, name: &str) -> Result<Vec<Bytes>, Unusable> {
        let bytes = |json: &Json| {
            let bytes = json.as_str().and_then(hex);
            bytes.ok_or_else(|| wrong(name, "a list of lower-case hexadecimal"))
        };
        self.list(name)?.iter().map(bytes).collect()
    }

    /// The elements of a list; none when it is absent.
    pub fn list(&self, name: &str) -> Result<&'a [Json], Unusable> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Json::Array(list)) => Ok(list),
            Some(_) => Err(wrong(name, "a list")),
        }
    }
}

/// The bytes that lower-case hexadecimal text stands for.
pub fn hex(text: &str) -> Option<Bytes> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
    Some(bytes.into())
}

fn missing(name: &str) -> Unusable {
    Unusable::new(format!("it has no {name:?}"))
}

fn wrong(name: &str, what: &str) -> Unusable {
    Unusable::new(format!("{name:?} is not {what}"))
}
