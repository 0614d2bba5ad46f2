//! The Huffman tables of annex K of ITU-T T.81, which frames of motion JPEG leave out.

use super::huffman::Codes;

/// Tables K.3 and K.4, for direct coefficients of luminance and chrominance.
pub(super) fn dc() -> [Codes; 2] {
    let symbols: Vec<u8> = (0..12).collect();
    [
        codes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &symbols),
        codes([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &symbols),
    ]
}

/// Tables K.5 and K.6, for the others.
pub(super) fn ac() -> [Codes; 2] {
    [
        codes(
            [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125],
            &with_rest(&[
                0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51,
                0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1,
                0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82,
            ]),
        ),
        codes(
            [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119],
            &with_rest(&[
                0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07,
                0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09,
                0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25,
                0xf1,
            ]),
        ),
    ]
}

/// Runs of 0 to 15 before numbers of 1 to 10 bits that are not listed have the longest codes, in
/// order.
fn with_rest(listed: &[u8]) -> Vec<u8> {
    let all = (0..=255).filter(|symbol| (1..=10).contains(&(symbol & 15)));
    let rest = all.filter(|symbol| !listed.contains(symbol));
    listed.iter().copied().chain(rest).collect()
}

fn codes(counts: [u8; 16], listed: &[u8]) -> Codes {
    let mut symbols = [0; 256];
    symbols[..listed.len()].copy_from_slice(listed);
    Codes { counts, symbols }
}
