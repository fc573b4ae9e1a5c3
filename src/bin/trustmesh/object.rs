//! Objects as people hand them in: files, standard input, hexadecimal or base 64.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;

use crate::failure::Failure;

/// Largest file read as one object: above it is no message that a server would carry (64 MiB) and
/// no trust file.
pub const OBJECT_MAX: u64 = 64 * 1024 * 1024 + 1024;

/// Reads a file, or standard input for `-`. What cannot be read is unusable input.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unusable = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(OBJECT_MAX + 1)
            .read_to_end(&mut bytes)
    } else {
        let file = std::fs::File::open(path).map_err(unusable)?;
        file.take(OBJECT_MAX + 1).read_to_end(&mut bytes)
    };
    read.map_err(unusable)?;
    if bytes.len() as u64 > OBJECT_MAX {
        let text = format!("{} is larger than any object", path.display());
        return Err(Failure::usage(text).into());
    }
    Ok(bytes)
}

/// The bytes that hexadecimal or base 64 text stands for; blanks around it and line breaks within
/// are no part of it.
pub fn decode(text: &[u8]) -> Option<Bytes> {
    let text = text.trim_ascii();
    let breaks = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if text.iter().any(breaks) {
        let kept: Vec<u8> = text.iter().copied().filter(|b| !breaks(b)).collect();
        return decode_line(&kept);
    }
    decode_line(text)
}

/// [`decode`], for text of one line.
pub fn decode_line(text: &[u8]) -> Option<Bytes> {
    use data_encoding::BASE64;
    use data_encoding::BASE64_NOPAD;
    use data_encoding::BASE64URL;
    use data_encoding::BASE64URL_NOPAD;
    use data_encoding::HEXLOWER_PERMISSIVE;
    if text.is_empty() {
        return None;
    }
    // No frame in base 64 is hexadecimal as well: their magics begin with V, a letter beyond f.
    let forms = [
        &HEXLOWER_PERMISSIVE,
        &BASE64,
        &BASE64_NOPAD,
        &BASE64URL,
        &BASE64URL_NOPAD,
    ];
    let decoded = forms.into_iter().find_map(|form| form.decode(text).ok())?;
    Some(decoded.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_and_base_64_are_read() {
        for text in [
            &b"544d5348ff"[..],
            b"544D5348FF",
            b" 544d\n5348ff\n",
            b"VE1TSP8=",
            b"VE1TSP8",
        ] {
            assert_eq!(decode(text).as_deref(), Some(&b"TMSH\xff"[..]), "{text:?}");
        }
        for text in [&b""[..], b" ", b"no text of ours", b"\x00\x01"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
