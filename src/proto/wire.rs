//! The canonical subset of MessagePack that signed objects and frames are made of (protocol §2.5).
//!
//! Bodies are positional arrays of unsigned integers, byte strings, text, arrays, `nil` and
//! booleans; there are no maps, floats, extension types or negative numbers. One value has one
//! encoding, the shortest, and [`Reader`] accepts no other: what it accepts is byte for byte what
//! [`encode`] would write. That is a filter, never a part of signature verification: signatures
//! are checked over the bytes that arrived.
//!
//! Reading never recurses (the schema fixes the nesting) and never allocates from a claimed length:
//! byte strings are slices of the received buffer, and an array cannot claim more elements than
//! bytes are left.

use bytes::Bytes;
use serde::Serialize;

use super::identity::KeyBytes;
use super::rejection::Malformed;
use super::rejection::Place;
use super::rejection::Rejection;
use super::signing::ObjectId;

/// Encodes a value, appending to `out`. Tuples become arrays, [`serde_bytes::Bytes`] byte strings.
pub(crate) fn encode_into<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    rmp_serde::encode::write(out, value)
        // Writing to a Vec cannot fail, and the types of this crate serialise without error.
        .expect("writing MessagePack to memory cannot fail");
}

/// Encodes a value.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    encode_into(&mut out, value);
    out
}

/// A byte string for [`encode`].
pub(crate) fn bin(bytes: &[u8]) -> &serde_bytes::Bytes {
    serde_bytes::Bytes::new(bytes)
}

/// Reads canonical values from a received buffer.
pub(crate) struct Reader<'a> {
    source: &'a Bytes,
    at: usize,
    place: Place,
}

impl<'a> Reader<'a> {
    /// A reader over the whole of `source`; faults will name `place`.
    pub(crate) fn new(source: &'a Bytes, place: Place) -> Self {
        Self {
            source,
            at: 0,
            place,
        }
    }

    /// A reader that begins `at` bytes into `source`.
    pub(crate) fn starting_at(source: &'a Bytes, at: usize, place: Place) -> Self {
        Self { source, at, place }
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn fault(&self, reason: Malformed) -> Rejection {
        Rejection::Malformed {
            place: self.place,
            reason,
        }
    }

    /// Checks that everything has been read.
    pub(crate) fn finish(self) -> Result<(), Rejection> {
        self.end()
    }

    /// [`finish`](Self::finish), for a reader that was lent.
    pub(crate) fn end(&self) -> Result<(), Rejection> {
        if self.at == self.source.len() {
            Ok(())
        } else {
            Err(self.fault(Malformed::TrailingBytes))
        }
    }

    pub(crate) fn uint(&mut self) -> Result<u64, Rejection> {
        let (value, least) = match self.byte()? {
            small @ 0x00..=0x7f => return Ok(u64::from(small)),
            0xcc => (self.number(1)?, 0x80),
            0xcd => (self.number(2)?, 0x100),
            0xce => (self.number(4)?, 0x1_0000),
            0xcf => (self.number(8)?, 0x1_0000_0000),
            _ => return Err(self.fault(Malformed::WrongType)),
        };
        if value < least {
            Err(self.fault(Malformed::NotCanonical))
        } else {
            Ok(value)
        }
    }

    /// A number that must fit the target type.
    pub(crate) fn number_of<T: TryFrom<u64>>(&mut self) -> Result<T, Rejection> {
        let value = self.uint()?;
        T::try_from(value).map_err(|_| self.fault(Malformed::OutOfRange))
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, Rejection> {
        match self.byte()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(self.fault(Malformed::WrongType)),
        }
    }

    /// Reads `nil` when it stands next; says whether it did.
    pub(crate) fn nil(&mut self) -> bool {
        let found = self.source.get(self.at) == Some(&0xc0);
        if found {
            self.at += 1;
        }
        found
    }

    /// `nil`, or what `read` reads.
    pub(crate) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Rejection>,
    ) -> Result<Option<T>, Rejection> {
        if self.nil() {
            Ok(None)
        } else {
            read(self).map(Some)
        }
    }

    /// The header of an array; its elements follow.
    pub(crate) fn array(&mut self) -> Result<usize, Rejection> {
        let (len, least) = match self.byte()? {
            short @ 0x90..=0x9f => (u64::from(short & 0x0f), 0),
            0xdc => (self.number(2)?, 16),
            0xdd => (self.number(4)?, 0x1_0000),
            _ => return Err(self.fault(Malformed::WrongType)),
        };
        if len < least {
            return Err(self.fault(Malformed::NotCanonical));
        }
        match usize::try_from(len) {
            // Every element takes at least one byte.
            Ok(len) if len <= self.left() => Ok(len),
            _ => Err(self.fault(Malformed::Truncated)),
        }
    }

    /// The header of an array of exactly `len` elements.
    pub(crate) fn array_of(&mut self, len: usize) -> Result<(), Rejection> {
        if self.array()? == len {
            Ok(())
        } else {
            Err(self.fault(Malformed::WrongLength))
        }
    }

    /// The header of an array of at most `max` elements.
    pub(crate) fn array_up_to(&mut self, max: usize) -> Result<usize, Rejection> {
        let len = self.array()?;
        if len <= max {
            Ok(len)
        } else {
            Err(self.too_large(max))
        }
    }

    /// A byte string of at most `max` bytes, as a slice of the received buffer.
    pub(crate) fn bin(&mut self, max: usize) -> Result<Bytes, Rejection> {
        let (len, least) = match self.byte()? {
            0xc4 => (self.number(1)?, 0),
            0xc5 => (self.number(2)?, 0x100),
            0xc6 => (self.number(4)?, 0x1_0000),
            _ => return Err(self.fault(Malformed::WrongType)),
        };
        self.slice(len, least, max)
    }

    /// A byte string of exactly `N` bytes.
    pub(crate) fn bin_of<const N: usize>(&mut self) -> Result<[u8; N], Rejection> {
        let start = self.at;
        if self.byte()? != 0xc4 {
            // Longer strings use other markers; any string of the wrong length is a wrong length.
            self.at = start;
            self.bin(usize::MAX)?;
            return Err(self.fault(Malformed::WrongLength));
        }
        let len = self.number(1)? as usize;
        let bytes = self.take(len)?;
        <[u8; N]>::try_from(bytes).map_err(|_| self.fault(Malformed::WrongLength))
    }

    pub(crate) fn key(&mut self) -> Result<KeyBytes, Rejection> {
        self.bin_of().map(KeyBytes)
    }

    pub(crate) fn object_id(&mut self) -> Result<ObjectId, Rejection> {
        self.bin_of().map(ObjectId)
    }

    /// UTF-8 text of at most `max` bytes, as a slice of the received buffer.
    pub(crate) fn text(&mut self, max: usize) -> Result<Bytes, Rejection> {
        let (len, least) = match self.byte()? {
            short @ 0xa0..=0xbf => (u64::from(short & 0x1f), 0),
            0xd9 => (self.number(1)?, 32),
            0xda => (self.number(2)?, 0x100),
            0xdb => (self.number(4)?, 0x1_0000),
            _ => return Err(self.fault(Malformed::WrongType)),
        };
        let bytes = self.slice(len, least, max)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) if !text.contains('\0') => Ok(bytes),
            _ => Err(self.fault(Malformed::NotText)),
        }
    }

    fn slice(&mut self, len: u64, least: u64, max: usize) -> Result<Bytes, Rejection> {
        if len < least {
            return Err(self.fault(Malformed::NotCanonical));
        }
        let len = match usize::try_from(len) {
            Ok(len) if len <= self.left() => len,
            _ => return Err(self.fault(Malformed::Truncated)),
        };
        if len > max {
            return Err(self.too_large(max));
        }
        let start = self.at;
        self.at += len;
        Ok(self.source.slice(start..self.at))
    }

    fn too_large(&self, max: usize) -> Rejection {
        Rejection::TooLarge {
            place: self.place,
            limit: u32::try_from(max).unwrap_or(u32::MAX),
        }
    }

    fn left(&self) -> usize {
        self.source.len() - self.at
    }

    fn byte(&mut self) -> Result<u8, Rejection> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self, len: usize) -> Result<u64, Rejection> {
        let bytes = self.take(len)?;
        Ok(bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Rejection> {
        match self.source.get(self.at..).and_then(|rest| rest.get(..len)) {
            Some(bytes) => {
                self.at += len;
                Ok(bytes)
            }
            None => Err(self.fault(Malformed::Truncated)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reader(bytes: &Bytes) -> Reader<'_> {
        Reader::new(bytes, Place::Frame)
    }

    fn reason(result: Result<impl Sized, Rejection>) -> Malformed {
        match result {
            Err(Rejection::Malformed { reason, .. }) => reason,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("accepted"),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(n: u64, data: Vec<u8>, text in "[^\0]{0,300}") {
            let bytes = Bytes::from(encode(&(n, bin(&data), text.as_str(), ())));
            let mut r = reader(&bytes);
            r.array_of(4).unwrap();
            prop_assert_eq!(r.uint().unwrap(), n);
            prop_assert_eq!(&r.bin(usize::MAX).unwrap()[..], &data[..]);
            prop_assert_eq!(&r.text(usize::MAX).unwrap()[..], text.as_bytes());
            prop_assert!(r.nil());
            r.finish().unwrap();
        }

        /// Whatever the reader accepts as a number or byte string is what the writer writes.
        #[test]
        fn only_the_canonical_encoding_is_accepted(raw: Vec<u8>) {
            let bytes = Bytes::from(raw.clone());
            let mut r = reader(&bytes);
            if let Ok(n) = r.uint() && r.finish().is_ok() {
                prop_assert_eq!(encode(&n), raw.clone());
            }
            let mut r = reader(&bytes);
            if let Ok(data) = r.bin(usize::MAX) && r.finish().is_ok() {
                prop_assert_eq!(encode(bin(&data)), raw);
            }
        }
    }

    #[test]
    fn longer_encodings_of_small_values_are_refused() {
        for raw in [
            &[0xcc, 0x7f][..],
            &[0xcd, 0x00, 0xff],
            &[0xce, 0, 0, 0xff, 0xff],
            &[0xcf, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        ] {
            let bytes = Bytes::copy_from_slice(raw);
            assert_eq!(reason(reader(&bytes).uint()), Malformed::NotCanonical);
        }
        let bytes = Bytes::from_static(&[0xdc, 0, 1, 1]);
        assert_eq!(reason(reader(&bytes).array()), Malformed::NotCanonical);
        let bytes = Bytes::from_static(&[0xc5, 0, 1, 1]);
        assert_eq!(reason(reader(&bytes).bin(9)), Malformed::NotCanonical);
        let bytes = Bytes::from_static(&[0xd9, 1, b'a']);
        assert_eq!(reason(reader(&bytes).text(9)), Malformed::NotCanonical);
    }

    /// DO-3: five bytes that claim four gigabytes cost nothing.
    #[test]
    fn huge_claimed_lengths_are_refused_without_allocating() {
        for marker in [0xc6, 0xdb, 0xdd] {
            let bytes = Bytes::from(vec![marker, 0xff, 0xff, 0xff, 0xff]);
            let mut r = reader(&bytes);
            let got = match marker {
                0xc6 => reason(r.bin(usize::MAX)),
                0xdb => reason(r.text(usize::MAX)),
                _ => reason(r.array()),
            };
            assert_eq!(got, Malformed::Truncated);
        }
    }

    /// EN-11: NUL and invalid UTF-8 are no text.
    #[test]
    fn text_must_be_utf8_without_nul() {
        for raw in [&[0xa1, 0xff][..], &[0xa1, 0x00], &[0xa2, 0xc0, 0x80]] {
            let bytes = Bytes::copy_from_slice(raw);
            assert_eq!(reason(reader(&bytes).text(9)), Malformed::NotText);
        }
    }

    #[test]
    fn text_and_bytes_are_not_interchangeable() {
        let text = Bytes::from_static(&[0xa1, b'a']);
        assert_eq!(reason(reader(&text).bin(9)), Malformed::WrongType);
        let data = Bytes::from_static(&[0xc4, 1, b'a']);
        assert_eq!(reason(reader(&data).text(9)), Malformed::WrongType);
        let list = Bytes::from_static(&[0x91, b'a']);
        assert_eq!(reason(reader(&list).bin(9)), Malformed::WrongType);
    }
}
