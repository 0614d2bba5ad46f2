//! What Tab completes in a conversation: commands, and the files that are to be shown.

use std::env;

use rustyline::{
    Context, Helper,
    completion::{Completer, FilenameCompleter, Pair},
    highlight::Highlighter,
    hint::Hinter,
    validate::Validator,
};

/// The commands, as they are typed.
const COMMANDS: [&str; 4] = ["/image ", "/clear", "/help", "/exit"];

/// Completes commands, and files behind `/image`.
pub(super) struct Completion {
    files: FilenameCompleter,
    home: Option<String>,
}

impl Completion {
    pub(super) fn new() -> Self {
        Self {
            files: FilenameCompleter::new(),
            home: env::var("HOME").ok(),
        }
    }

    /// What may stand from a place of the line on to `pos`, and that place.
    fn proposals(&self, line: &str, pos: usize) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        let Some((command, name)) = typed.split_once(char::is_whitespace) else {
            let fitting = COMMANDS
                .iter()
                .filter(|command| !typed.is_empty() && command.starts_with(typed));
            let pair = |command: &&str| Pair {
                display: command.trim_end().to_owned(),
                replacement: command.to_string(),
            };
            return Ok((0, fitting.map(pair).collect()));
        };
        if command != "/image" {
            return Ok((pos, Vec::new()));
        }
        let begin = pos - name.trim_start().len();
        // A home folder is written out, since files are looked for as they are named.
        match (typed[begin..].strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => {
                let home = home.trim_end_matches('/');
                let whole = format!("{}{home}/{rest}", &typed[..begin]);
                let (start, pairs) = self.files.complete_path(&whole, whole.len())?;
                Ok((start.min(begin), pairs))
            }
            _ => self.files.complete_path(line, pos),
        }
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        self.proposals(line, pos)
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;
    use bunny_core::generate::Typed;

    fn proposed(completion: &Completion, line: &str) -> Vec<String> {
        let (start, pairs) = completion.proposals(line, line.len()).unwrap();
        let lines = pairs.iter();
        let mut lines: Vec<String> = lines
            .map(|pair| format!("{}{}", &line[..start], pair.replacement))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn commands_are_completed_and_messages_are_not() {
        let completion = Completion::new();
        assert_eq!(proposed(&completion, "/i"), ["/image "]);
        assert_eq!(proposed(&completion, "/").len(), COMMANDS.len());
        for message in ["", "What", "What is /i", "/clear x", "/x"] {
            assert!(proposed(&completion, message).is_empty(), "{message}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_completed_name_is_read_as_the_file_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["my cat.jpg", "cup.jpg", "other.png"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let place = folder.path().display().to_string();
        let completion = Completion {
            home: Some(place.clone()),
            ..Completion::new()
        };
        for begun in [
            format!("/image {place}/my"),
            "/image ~/my".to_owned(),
            format!("/image {place}/my\\ c"),
        ] {
            let lines = proposed(&completion, &begun);
            assert_eq!(lines.len(), 1, "{begun}: {lines:?}");
            let named = Typed::Image(format!("{place}/my cat.jpg"));
            assert_eq!(Typed::parse(&lines[0], None).unwrap(), named, "{lines:?}");
        }
        assert_eq!(proposed(&completion, &format!("/image {place}/")).len(), 3);
    }
}
