//! A Python list of strings, as MMMU's Parquet files spell options: `['a', "it's"]`.

/// The strings of a list literal, or `None` where the text is no such literal.
pub(crate) fn strings(text: &str) -> Option<Vec<String>> {
    let mut rest = super::strip(text).strip_prefix('[')?;
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            return super::strip(after).is_empty().then_some(found);
        }
        let (mut item, mut after) = string(rest)?;
        // Strings side by side are one.
        while let Some((more, behind)) = string(after.trim_start()) {
            item.push_str(&more);
            after = behind;
        }
        found.push(item);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with(']') => {}
            None => return None,
        }
    }
}

/// One string literal at the start of `text`, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let raw = text.starts_with(['r', 'R']);
    let text = text.strip_prefix(['r', 'R', 'u', 'U']).unwrap_or(text);
    let quote = text
        .chars()
        .next()
        .filter(|first| matches!(first, '\'' | '"'))?;
    let triple = [quote; 3].iter().collect::<String>();
    let end = if text.starts_with(&triple) {
        triple
    } else {
        quote.to_string()
    };
    let mut rest = &text[end.len()..];
    let mut value = String::new();
    loop {
        if let Some(after) = rest.strip_prefix(end.as_str()) {
            return Some((value, after));
        }
        let mut characters = rest.chars();
        match characters.next()? {
            '\\' if raw => {
                value.push('\\');
                value.push(characters.next()?);
                rest = characters.as_str();
            }
            '\\' => rest = escape(characters.as_str(), &mut value)?,
            '\n' | '\r' if end.len() == 1 => return None,
            other => {
                value.push(other);
                rest = characters.as_str();
            }
        }
    }
}

/// What stands behind a backslash; an unknown escape keeps its backslash.
fn escape<'a>(text: &'a str, value: &mut String) -> Option<&'a str> {
    let mut characters = text.chars();
    let first = characters.next()?;
    let rest = characters.as_str();
    let simple = match first {
        '\n' => return Some(rest),
        '\\' | '\'' | '"' => first,
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        'x' => return number(rest, 2, 16, value),
        'u' => return number(rest, 4, 16, value),
        'U' => return number(rest, 8, 16, value),
        '0'..='7' => {
            let digits = text
                .bytes()
                .take(3)
                .take_while(|byte| (b'0'..=b'7').contains(byte));
            return number(text, digits.count(), 8, value);
        }
        other => {
            value.push('\\');
            other
        }
    };
    value.push(simple);
    Some(rest)
}

fn number<'a>(text: &'a str, digits: usize, radix: u32, value: &mut String) -> Option<&'a str> {
    let code = u32::from_str_radix(text.get(..digits)?, radix).ok()?;
    value.push(char::from_u32(code)?);
    text.get(digits..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(literal: &str, expected: &[&str]) {
        assert_eq!(strings(literal).unwrap(), expected, "{literal}");
    }

    // What CPython's `ast.literal_eval` makes of the same text.
    #[test]
    fn both_quotes_and_escapes_are_read_as_python_reads_them() {
        reads("[]", &[]);
        reads(r"['$6', '$7',]", &["$6", "$7"]);
        reads(r#"["it's", 'say "no"']"#, &["it's", "say \"no\""]);
        reads(r"['$\\frac{1}{2}$', 'a\tb']", &[r"$\frac{1}{2}$", "a\tb"]);
        reads(r"['\d\x41\u00e9\101']", &["\\dA\u{e9}A"]);
        reads("[ 'a'  'b' ,\n '''c'd''']", &["ab", "c'd"]);
        reads(r"[r'\n', '<image 1>']", &["\\n", "<image 1>"]);
    }

    #[test]
    fn what_is_no_list_of_strings_is_refused() {
        for text in [
            "", "[", "['a'", "['a' 1]", "[1]", "'a'", "['a'] b", "['a\n']",
        ] {
            assert_eq!(strings(text), None, "{text}");
        }
    }
}
