//! Text from data, files and people, made safe for where it is shown.

use std::borrow::Cow;

/// Text for one line of a terminal: control characters, line ends and what turns the direction of
/// writing are shown as Rust would write them (`\n`, `\u{1b}`), everything else stays.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    if !text.chars().any(moves_a_terminal) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if moves_a_terminal(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Text of several lines for a terminal: ends of lines and tabs stay, all else is as in [`for_terminal`].
pub fn lines_for_terminal(text: &str) -> String {
    let pieces = text.split_inclusive(['\n', '\t']);
    let shown = pieces.map(|piece| {
        let end = piece.len() - usize::from(piece.ends_with(['\n', '\t']));
        format!("{}{}", for_terminal(&piece[..end]), &piece[end..])
    });
    shown.collect()
}

/// Text of a file in a message: as in [`for_terminal`], and not too long.
pub fn for_message(text: &str) -> String {
    const LONGEST: usize = 400;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", for_terminal(&text[..end])),
        None => for_terminal(text).into_owned(),
    }
}

/// Control characters (C0, C1 and DEL), line and paragraph separators, marks that reverse text.
fn moves_a_terminal(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

/// Text for HTML, in attributes too.
pub fn for_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_sequence_and_no_second_line() {
        assert_eq!(for_terminal("Größe 図 🐇"), "Größe 図 🐇");
        assert_eq!(for_terminal("a\u{1b}[2Jb\r\nc"), "a\\u{1b}[2Jb\\r\\nc");
        assert_eq!(for_terminal("\u{202e}txt.exe"), "\\u{202e}txt.exe");
        assert_eq!(for_terminal("\u{9b}31m"), "\\u{9b}31m");
    }

    #[test]
    fn lines_stay_lines_and_nothing_else_moves_a_terminal() {
        let text = "a\tb\n\u{1b}[2Jc\r\n\n\u{9b}d";
        let shown = lines_for_terminal(text);
        assert_eq!(shown, "a\tb\n\\u{1b}[2Jc\\r\n\n\\u{9b}d");
    }

    #[test]
    fn a_page_gets_no_element_and_no_attribute() {
        assert_eq!(
            for_html(r#"<a href="x" title='y'>&"#),
            "&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;"
        );
    }
}
