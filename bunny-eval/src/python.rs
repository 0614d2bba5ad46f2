//! Python's ways with text and numbers, which the reference's scorers rest on.
//!
//! They differ from Rust's in small things that change scores: four more characters are white
//! space, numbers may hold underscores and any script's digits, and JSON is written in ASCII.

pub(crate) mod json;
pub(crate) mod literal;
pub mod random;

/// White space as `str.isspace` has it: Unicode's, and the four separators U+001C to U+001F.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.split()`: the words between white space.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// The lines of a file opened as text: they end at a line feed, a carriage return, or both.
/// What follows the last end is a line if it is not empty. The ends are left out.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(end) = rest.find(['\n', '\r']) else {
            return Some(std::mem::take(&mut rest));
        };
        let line = &rest[..end];
        let both = rest[end..].starts_with("\r\n");
        rest = &rest[end + if both { 2 } else { 1 }..];
        Some(line)
    })
}

/// `float(text)`, where Python can read it: white space around, a sign, digits of any script,
/// underscores between digits, a point, an exponent; or `inf`, `infinity`, `nan` in any case.
pub(crate) fn float(text: &str) -> Option<f64> {
    // Of ASCII only C's white space is taken off: `float` keeps U+001C to U+001F, which `strip`
    // does not.
    let text = text.trim_matches(|c: char| c.is_whitespace());
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if ["inf", "infinity", "nan"]
        .iter()
        .any(|name| unsigned.eq_ignore_ascii_case(name))
    {
        return text.parse().ok();
    }
    let mut plain = String::with_capacity(text.len());
    let mut before = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let digit = decimal_digit(character);
        match (digit, character) {
            (Some(digit), _) => plain.push(char::from(b'0' + digit)),
            (None, '_') => {
                let between = before.is_some_and(|before| decimal_digit(before).is_some())
                    && characters
                        .peek()
                        .is_some_and(|next| decimal_digit(*next).is_some());
                if !between {
                    return None;
                }
            }
            (None, '+' | '-' | '.' | 'e' | 'E') => plain.push(character),
            _ => return None,
        }
        before = Some(character);
    }
    // Rust reads the same grammar, a lone exponent or point refused by both.
    plain.parse().ok()
}

/// `round(value, digits)`: half to even on the exact binary value.
pub(crate) fn round(value: f64, digits: usize) -> f64 {
    if !value.is_finite() {
        return value;
    }
    // Formatting rounds the exact value; reading it gives the nearest float, as Python does.
    format!("{value:.digits$}").parse().unwrap_or(value)
}

/// The value of a decimal digit of any script (Unicode's Nd), as `\d` and `float` take it.
pub(crate) fn decimal_digit(character: char) -> Option<u8> {
    if character.is_ascii() {
        return character.to_digit(10).map(|digit| digit as u8);
    }
    let code = u32::from(character);
    let zero = match DIGIT_ZEROS.binary_search(&code) {
        Ok(at) => DIGIT_ZEROS[at],
        Err(0) => return None,
        Err(at) => DIGIT_ZEROS[at - 1],
    };
    let digit = code - zero;
    // The mathematical digits are five runs of ten without a gap.
    let run = if zero == 0x1D7CE { 50 } else { 10 };
    (digit < run).then_some((digit % 10) as u8)
}

/// Where each run of ten decimal digits starts (Unicode 15.0, general category Nd; Python 3.12).
const DIGIT_ZEROS: [u32; 63] = [
    0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66,
    0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90,
    0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10,
    0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650,
    0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x11F50, 0x16A60, 0x16AC0,
    0x16B50, 0x1D7CE, 0x1E140, 0x1E2F0, 0x1E4F0, 0x1E950, 0x1FBF0,
];
