//! What a line means that a person types in a conversation.

use thiserror::Error;

use crate::input::image::file_url;

/// The commands that a line may be.
pub const HELP: &str = "\
/image FILE|URL   show a picture with the next message; several may be shown
/clear            begin a new conversation
/help             this list
/exit             end; so does Ctrl-D";

/// A line that was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed<'a> {
    /// Nothing.
    Nothing,
    /// A turn of the conversation, without the spaces around it.
    Message(&'a str),
    /// A picture to be shown with the next message: its file or address.
    Image(String),
    /// A new conversation is wanted.
    Clear,
    /// [`HELP`] is wanted.
    Help,
    /// The conversation is over.
    End,
}

/// Why a line means nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TypedError {
    /// `/image` alone.
    #[error("/image lacks its picture: write /image FILE or /image URL")]
    NoPicture,
    /// A quotation mark without its second one.
    #[error("the quotation mark in `{0}` is not closed")]
    Unclosed(String),
    /// A command that there is not.
    #[error("no command `{0}`; /help lists them")]
    Unknown(String),
}

impl<'a> Typed<'a> {
    /// Reads a line. A file's name may stand in quotation marks or have its spaces escaped by `\`, as
    /// terminals write the name of a file that is dropped on them, begin with `~/`, which stands for
    /// `home`, or be a `file://` address.
    ///
    /// A message may begin with a path: `/home/me/cat.jpg shows what?` is no command.
    ///
    /// # Errors
    /// When a command is unknown or lacks what it is about.
    pub fn parse(line: &'a str, home: Option<&str>) -> Result<Self, TypedError> {
        let line = line.trim();
        let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Ok(match (command, rest.trim()) {
            ("", _) => Self::Nothing,
            ("/help", _) => Self::Help,
            ("/clear", _) => Self::Clear,
            ("/exit" | "/quit", _) => Self::End,
            ("/image", "") => return Err(TypedError::NoPicture),
            ("/image", name) => Self::Image(file_name(name, home)?),
            (command, _) if command.starts_with('/') && !command[1..].contains('/') => {
                return Err(TypedError::Unknown(command.into()));
            }
            _ => Self::Message(line),
        })
    }
}

/// A name without quotation marks, escapes and `~`, and a file's address as the file's name.
fn file_name(typed: &str, home: Option<&str>) -> Result<String, TypedError> {
    let name = unquoted(typed)?;
    Ok(match (name.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => format!("{}/{rest}", home.trim_end_matches('/')),
        _ => file_url(&name).unwrap_or(name),
    })
}

/// A name as a shell reads its word, but that spaces need no quotation marks, and that a name which
/// begins with none has none: `it's mine.jpg`.
fn unquoted(typed: &str) -> Result<String, TypedError> {
    // Where `\` divides folders it escapes nothing.
    let escapes = !cfg!(windows);
    let is_quoted = typed.starts_with(['"', '\'']);
    let mut open = None;
    let mut name = String::new();
    let mut letters = typed.chars().peekable();
    while let Some(letter) = letters.next() {
        match (open, letter) {
            (Some(mark), _) if letter == mark => open = None,
            (None, '"' | '\'') if is_quoted => open = Some(letter),
            (None, '\\') if escapes => name.extend(letters.next()),
            (Some('"'), '\\') if escapes => {
                let escaped = letters.next_if(|next| matches!(next, '"' | '\\' | '$' | '`'));
                name.push(escaped.unwrap_or('\\'));
            }
            _ => name.push(letter),
        }
    }
    match open {
        Some(_) => Err(TypedError::Unclosed(typed.into())),
        None => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> Typed<'static> {
        Typed::Image(name.into())
    }

    #[test]
    fn a_line_is_a_command_or_a_message() {
        for (line, expected) in [
            ("", Typed::Nothing),
            ("  \t ", Typed::Nothing),
            (" What is this? ", Typed::Message("What is this?")),
            ("/help", Typed::Help),
            ("/clear", Typed::Clear),
            ("/exit", Typed::End),
            ("/quit", Typed::End),
            ("/image cat.jpg", image("cat.jpg")),
            ("/image\tcat.jpg ", image("cat.jpg")),
            ("/image https://a.b/c?d=e f", image("https://a.b/c?d=e f")),
            ("/home/me/cat.jpg?", Typed::Message("/home/me/cat.jpg?")),
        ] {
            assert_eq!(Typed::parse(line, None).unwrap(), expected, "{line:?}");
        }
    }

    #[test]
    fn files_are_named_as_terminals_and_people_name_them() {
        for (line, name) in [
            ("/image 'my cat.jpg'", "my cat.jpg"),
            ("/image \"my cat.jpg\"", "my cat.jpg"),
            ("/image my cat.jpg", "my cat.jpg"),
            ("/image it's mine.jpg", "it's mine.jpg"),
            ("/image ~/cat.jpg", "/home/me/cat.jpg"),
            ("/image \"~/my cat.jpg\"", "/home/me/my cat.jpg"),
            ("/image file:///tmp/my%20cat.jpg", "/tmp/my cat.jpg"),
            ("/image ~other/cat.jpg", "~other/cat.jpg"),
            ("/image -", "-"),
        ] {
            let typed = Typed::parse(line, Some("/home/me/")).unwrap();
            assert_eq!(typed, image(name), "{line}");
        }
        #[cfg(not(windows))]
        for (line, name) in [
            (r"/image my\ cat\'s.jpg", "my cat's.jpg"),
            (r"/image a\\b.jpg", r"a\b.jpg"),
            (r"/image 'Ada'\''s cat.jpg'", "Ada's cat.jpg"),
            (r#"/image "a \"b\" \c.jpg""#, r#"a "b" \c.jpg"#),
        ] {
            assert_eq!(Typed::parse(line, None).unwrap(), image(name), "{line}");
        }
    }

    #[test]
    fn what_means_nothing_is_told() {
        for (line, told) in [
            ("/image", "lacks its picture"),
            ("/image \"cat.jpg", "not closed"),
            ("/images cat.jpg", "no command `/images`"),
        ] {
            let error = Typed::parse(line, None).unwrap_err().to_string();
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
