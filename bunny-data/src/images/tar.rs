//! The members of a tar file: where each regular file's bytes stand.
//!
//! ```text
//! header [512] · data, padded to 512 · header [512] · data … · two blocks of zeros
//! ```
//!
//! ustar, GNU long names and pax paths and sizes are understood; links and devices are passed over.
//! The `tar` crate is not used: 0.4.46 lists an archive that is cut short inside its last member
//! without a word, reads a long name of whatever length into memory, does not say where an archive is
//! broken, and refuses the sums of signed bytes that some old writers left.

use std::ops::Range;

const BLOCK: usize = 512;
/// No name in a real archive is longer; a broken length must not make one.
const MAX_NAME: usize = 64 << 10;

/// What is wrong with a tar file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BrokenTar {
    pub offset: usize,
    pub what: &'static str,
}

/// Calls `each` with the name and the place of every regular file.
pub(crate) fn members(
    tar: &[u8],
    mut each: impl FnMut(&str, Range<usize>),
) -> Result<(), BrokenTar> {
    let mut at = 0;
    let (mut long_name, mut long_size) = (None, None);
    while let Some(header) = tar.get(at..at + BLOCK) {
        let broken = |what| BrokenTar { offset: at, what };
        if header.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        if !checksum_holds(header) {
            return Err(broken("this is not a tar header"));
        }
        let kind = header[156];
        let size = match long_size.take() {
            Some(size) if !matches!(kind, b'x' | b'g' | b'L' | b'K') => size,
            _ => number(&header[124..136]).ok_or_else(|| broken("the size is not a number"))?,
        };
        let start = at + BLOCK;
        let end = usize::try_from(size)
            .ok()
            .and_then(|size| start.checked_add(size))
            .filter(|end| *end <= tar.len())
            .ok_or_else(|| broken("the archive is cut short inside this member"))?;
        let data = start..end;
        match kind {
            b'0' | 0 | b'7' => {
                let name = match long_name.take() {
                    Some(name) => name,
                    None => short_name(header).ok_or_else(|| broken("the name is not UTF-8"))?,
                };
                // A trailing slash is how the oldest archives mark a folder.
                if !name.ends_with('/') {
                    each(name.strip_prefix("./").unwrap_or(&name), data);
                }
            }
            b'L' | b'x' if data.len() > MAX_NAME => {
                return Err(broken("the name of the next member is longer than 64 KiB"));
            }
            b'L' => {
                long_name = Some(text(&tar[data]).ok_or_else(|| broken("the name is not UTF-8"))?)
            }
            b'x' => {
                for (key, value) in pax(&tar[data]) {
                    match key {
                        b"path" => long_name = text(value),
                        b"size" => long_size = text(value).and_then(|size| size.parse().ok()),
                        _ => {}
                    }
                }
            }
            b'g' | b'K' => {}
            _ => long_name = None,
        }
        at = end.div_ceil(BLOCK) * BLOCK;
    }
    if tar.is_empty() || at != tar.len() {
        return Err(BrokenTar {
            offset: at,
            what: "the archive is cut short",
        });
    }
    // Some writers leave the two blocks of zeros out.
    Ok(())
}

/// The header's checksum: the sum of its bytes, its own eight counted as spaces.
fn checksum_holds(header: &[u8]) -> bool {
    let sum = |value: fn(u8) -> i64| -> i64 {
        header
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                value(if (148..156).contains(&at) {
                    b' '
                } else {
                    *byte
                })
            })
            .sum()
    };
    // Some old writers summed signed bytes.
    number(&header[148..156]).is_some_and(|said| {
        let said = said as i64;
        said == sum(i64::from) || said == sum(|byte| i64::from(byte as i8))
    })
}

/// A number of a header: octal text, or big-endian binary when the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (first, rest) = field.split_first()?;
        return rest
            .iter()
            .try_fold(u64::from(first & 0x7F), |number, byte| {
                number.checked_mul(256)?.checked_add(u64::from(*byte))
            });
    }
    let digits = field
        .iter()
        .skip_while(|byte| **byte == b' ')
        .take_while(|byte| !matches!(byte, 0 | b' '));
    digits.into_iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(8)?;
        number.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

/// `prefix/name` of a ustar header, or `name`.
fn short_name(header: &[u8]) -> Option<String> {
    let name = text(&header[..100])?;
    // GNU's own headers ("ustar  ") keep times where ustar ("ustar\0") keeps the prefix.
    let prefix = if header[257..263] == *b"ustar\0" {
        text(&header[345..500])?
    } else {
        String::new()
    };
    Some(if prefix.is_empty() {
        name
    } else {
        format!("{prefix}/{name}")
    })
}

/// Text up to its first zero byte.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).ok().map(str::to_owned)
}

/// The records of a pax header, each `length key=value\n`; stops at what is not one.
fn pax(mut data: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let space = data.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
        let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
        data = &data[length..];
        let equals = record.iter().position(|byte| *byte == b'=')?;
        Some((&record[..equals], &record[equals + 1..]))
    })
}
