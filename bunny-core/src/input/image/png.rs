//! PNG that lacks its end.

use std::borrow::Cow;

const SIGNATURE: usize = 8;
/// Of a chunk: its length and its name before the data, its checksum behind.
const HEAD: usize = 8;
const CHECKSUM: usize = 4;

/// Gives a file the end that it lacks.
///
/// Pillow asks for nothing more once it has all rows, while the decoder here wants the last data
/// with their checksum, and the chunk that ends the file. Whether all rows are there remains the
/// decoder's to find out.
pub(super) fn with_end(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut at = SIGNATURE;
    while let Some(rest) = bytes.get(at..) {
        let Some((head, data)) = rest.split_first_chunk::<HEAD>() else {
            break;
        };
        let [l3, l2, l1, l0, name @ ..] = *head;
        let length = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        let is_whole = data.len() >= length.saturating_add(CHECKSUM);
        match &name {
            b"IEND" if is_whole => return Cow::Borrowed(bytes),
            b"IEND" => break,
            b"IDAT" if !is_whole => {
                let data = &data[..length.min(data.len())];
                let mut ended = bytes[..at].to_vec();
                push_chunk(&mut ended, b"IDAT", data);
                push_chunk(&mut ended, b"IEND", &[]);
                return Cow::Owned(ended);
            }
            _ if !is_whole => return Cow::Borrowed(bytes),
            _ => at += HEAD + length + CHECKSUM,
        }
    }
    let mut ended = bytes[..at.min(bytes.len())].to_vec();
    push_chunk(&mut ended, b"IEND", &[]);
    Cow::Owned(ended)
}

fn push_chunk(file: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    file.extend((data.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend(name);
    file.extend(data);
    let checksum = crc_32(&file[start..]);
    file.extend(checksum.to_be_bytes());
}

/// Annex D of ISO/IEC 15948, bit by bit: it is needed once.
fn crc_32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL * (crc & 1))
        })
    })
}
