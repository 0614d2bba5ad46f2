//! Words of a command that is shown to be copied.

/// `text` as one word of a shell's command.
pub fn word(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_./:=@%+,-".contains(letter);
    match text.is_empty() || !text.chars().all(plain) {
        true => format!("'{}'", text.replace('\'', r"'\''")),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_shell_reads_the_word_that_was_meant() {
        for text in [
            "runs/tiny",
            "my pictures",
            "it's",
            "a$b`c\"d\\",
            "",
            "*.jpg",
        ] {
            let said = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", word(text))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), text);
        }
        assert_eq!(word("runs/tiny-2/best.json"), "runs/tiny-2/best.json");
    }
}
