//! HTML's character references, resolved as Python's `html.unescape` resolves them.

use std::{collections::HashMap, sync::OnceLock};

/// Names and the characters they stand for, a line each (`ngE;` 2267 338); from Python's `html.entities.html5` by
/// `tests/reference/pairs.py`.
const ENTITIES: &str = include_str!("entities.txt");
/// No name is longer.
const MAX_NAME: usize = 32;

fn entities() -> &'static HashMap<&'static str, String> {
    static TABLE: OnceLock<HashMap<&'static str, String>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let character = |code| char::from_u32(u32::from_str_radix(code, 16).ok()?);
        let entity = |line: &'static str| {
            let (name, codes) = line.split_once(' ')?;
            Some((name, codes.split(' ').filter_map(character).collect()))
        };
        ENTITIES.lines().filter_map(entity).collect()
    })
}

/// The text with its references resolved, once. With `whole` only those that end in `;` and are known as
/// they stand, as ftfy takes them; else also those that browsers guess.
pub(super) fn resolve(text: &str, whole: bool) -> String {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        resolved.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (meant, behind) = match rest.strip_prefix('#') {
            Some(number) => numbered(number, whole),
            None => named(rest, whole),
        }
        .unwrap_or_else(|| ("&".to_owned(), rest));
        resolved.push_str(&meant);
        rest = behind;
    }
    resolved.push_str(rest);
    resolved
}

/// What a reference by number stands for, and what follows it.
fn numbered(text: &str, whole: bool) -> Option<(String, &str)> {
    let (digits, radix) = match text.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let behind = digits[end..].strip_prefix(';');
    if end == 0 || (whole && behind.is_none()) {
        return None;
    }
    let number = digits[..end]
        .chars()
        .filter_map(|digit| digit.to_digit(radix))
        .fold(0_u32, |number, digit| {
            number.saturating_mul(radix).saturating_add(digit)
        });
    Some((character(number), behind.unwrap_or(&digits[end..])))
}

fn character(number: u32) -> String {
    match (number, char::from_u32(number)) {
        (0, _) | (_, None) => "\u{fffd}".into(),
        (13, Some(character)) => character.into(),
        (0x80..=0x9f, Some(character)) => windows_1252(character).into(),
        // No characters of a text: Python leaves them out.
        (1..=8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef, _) => String::new(),
        (number, _) if number & 0xfffe == 0xfffe => String::new(),
        (_, Some(character)) => character.into(),
    }
}

/// What a reference by name stands for, and what follows it: of what may be a name, the longest start
/// that is one.
fn named(text: &str, whole: bool) -> Option<(String, &str)> {
    let is_end = |c: char| matches!(c, '\t' | '\n' | '\x0c' | ' ' | '<' | '&' | '#' | ';');
    let mut end = 0;
    for (count, character) in text.chars().enumerate() {
        if count == MAX_NAME || is_end(character) {
            break;
        }
        end += character.len_utf8();
    }
    if end == 0 {
        return None;
    }
    let table = entities();
    if text[end..].starts_with(';')
        && let Some(meant) = table.get(&text[..=end])
    {
        return Some((meant.clone(), &text[end + 1..]));
    }
    if whole {
        return None;
    }
    let starts = (2..=end).rev().filter(|end| text.is_char_boundary(*end));
    let mut known = starts.filter_map(|end| Some((table.get(&text[..end])?, end)));
    let (meant, end) = known.next()?;
    Some((meant.clone(), &text[end..]))
}

/// What Windows' table has in the place of a control character, `U+0080` to `U+009F`.
pub(super) fn windows_1252(character: char) -> char {
    const TABLE: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    let place = u32::from(character).checked_sub(0x80);
    let known = place.and_then(|place| TABLE.get(place as usize));
    known.copied().unwrap_or(character)
}
