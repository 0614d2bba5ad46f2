//! Text as captions of the published pairs were prepared.
//!
//! CLIP's: `ftfy`'s repairs, references of HTML resolved twice, spaces folded (open_clip's
//! `tokenizer.py`). Of ftfy, what hangs on single characters is here; its guess which text was decoded
//! by a wrong table (`Ã©` for `é`) is not.

use tokenizers::{
    NormalizedString, Normalizer,
    normalizers::unicode::{NFC, NFKC},
};

use super::entities::{resolve, windows_1252};

/// A caption cleaned as for CLIP, in the case that it has.
pub fn clean(caption: &str) -> String {
    let mut text = caption.to_owned();
    // As ftfy: until nothing changes, each time all of it.
    loop {
        let fixed = fix(&text);
        if fixed == text {
            break;
        }
        text = fixed;
    }
    let text = resolve(&resolve(&text, false), false);
    let words: Vec<&str> = text
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// A caption as for SigLIP: in lower case, without ASCII's punctuation, spaces folded (`transformers`'
/// `SiglipTokenizer.canonicalize_text`).
pub fn without_punctuation(caption: &str) -> String {
    // What stands for a space within the vocabulary is one.
    let text = caption.replace('▁', " ").to_lowercase();
    let text: String = text.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let words: Vec<&str> = text
        .split(is_space)
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// What Python's `str.split` splits at: Unicode's white space, and the four separators of ASCII.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// One round of ftfy's `fix_text`, without what looks at encodings. Lines are looked at one by one: what
/// has a `<` is taken for HTML, and that alone would have its references as they are.
fn fix(text: &str) -> String {
    let mut is_html = false;
    let resolved: String = text
        .split_inclusive('\n')
        .map(|line| {
            is_html |= line.contains('<');
            match is_html {
                true => line.to_owned(),
                false => resolve(line, true),
            }
        })
        .collect();
    let mut fixed = String::with_capacity(resolved.len());
    for character in without_terminal_escapes(&resolved).chars() {
        fix_character(character, &mut fixed);
    }
    let fixed = fixed.replace("\r\n", "\n").replace('\r', "\n");
    normalized(&NFC, &fixed)
}

fn fix_character(character: char, fixed: &mut String) {
    let text = match character {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => "'",
        '\u{201c}'..='\u{201f}' => "\"",
        '\u{3000}' => " ",
        '\u{2028}' | '\u{2029}' => "\n",
        // Characters that nobody meant.
        '\0'..='\x08' | '\x0b' | '\x0e'..='\x1f' | '\x7f' => "",
        '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' => "",
        // Forms as wide as ideographs, or half as wide.
        '\u{ff01}'..='\u{ffef}' => {
            fixed.push_str(&normalized(&NFKC, character.encode_utf8(&mut [0; 4])));
            return;
        }
        '\u{80}'..='\u{9f}' => {
            fixed.push(windows_1252(character));
            return;
        }
        _ => {
            fixed.push(character);
            return;
        }
    };
    fixed.push_str(text);
}

/// Text without the sequences that set a terminal's colours: `ESC [ 3 6 ; 4 4 m`.
fn without_terminal_escapes(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        let behind = &rest[at + 2..];
        let numbers = behind.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        left.push_str(&rest[..at]);
        rest = match numbers.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(after) => after,
            None => {
                left.push_str("\x1b[");
                behind
            }
        };
    }
    left.push_str(rest);
    left
}

fn normalized(form: &impl Normalizer, text: &str) -> String {
    let mut string = NormalizedString::from(text);
    match form.normalize(&mut string) {
        Ok(()) => string.get().to_owned(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pair by ftfy 6.3.1 and `html.unescape`, as open_clip 3.3 calls them.
    #[test]
    fn captions_are_cleaned_as_by_open_clip() {
        for (caption, cleaned) in [
            ("  a\t dog \n&amp;amp; a cat ", "a dog & a cat"),
            ("<b>5 &lt; 6</b>", "<b>5 < 6</b>"),
            ("‘quoted’ “twice”", "'quoted' \"twice\""),
            ("ＬＯＵＤ　ﬁne", "LOUD fine"),
            ("\u{feff}a\u{0}b\x1b[36;44mc", "abc"),
            ("caf\u{65}\u{301}", "café"),
            ("&notit; &#x41;&#66 &#128; &nbsp;x", "¬it; AB € x"),
        ] {
            assert_eq!(clean(caption), cleaned, "{caption:?}");
        }
    }

    #[test]
    fn punctuation_goes_and_spaces_fold() {
        assert_eq!(
            without_punctuation("  A dog's_day: (2nd)\u{a0}«Ende»! "),
            "a dogsday 2nd «ende»"
        );
    }
}
