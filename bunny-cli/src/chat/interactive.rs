//! A conversation typed line by line.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::Result;
use burn::tensor::backend::Backend;
use image::RgbImage;
use rustyline::{DefaultEditor, error::ReadlineError};

use super::Turns;
use crate::{one_line, picture};

const HELP: &str = "\
/image FILE|URL   show a picture with the next message; several may be shown
/clear            begin a new conversation
/help             this list
/exit             end; so does Ctrl-D
Ctrl-C            stop an answer";

/// Reads turns until the person has had enough. `pictures` belong to the first.
///
/// # Errors
/// When the terminal fails; a turn that fails is reported, and the conversation goes on.
pub(super) fn run<B: Backend>(turns: &mut Turns<'_, B>, pictures: Vec<RgbImage>) -> Result<()> {
    let mut pictures = pictures;
    let mut lines = Lines::new()?;
    if io::stdin().is_terminal() {
        eprintln!("Ask away; /help lists the commands.");
    }
    while let Some(line) = lines.next()? {
        let line = line.trim();
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "" => {}
            "/exit" | "/quit" => break,
            "/help" => eprintln!("{HELP}"),
            "/clear" => {
                turns.chat.clear();
                pictures.clear();
            }
            "/image" => match picture::read(rest.trim()) {
                Ok(picture) => pictures.push(picture),
                Err(error) => eprintln!("error: {}", one_line(&error)),
            },
            command if command.starts_with('/') && !command[1..].contains('/') => {
                eprintln!("error: no command `{command}`; /help lists them");
            }
            _ => match turns.take(line, &pictures) {
                Ok(()) => pictures.clear(),
                Err(error) => eprintln!("error: {}", one_line(&error)),
            },
        }
    }
    Ok(())
}

/// Lines from a terminal with editing and history, or from a pipe.
enum Lines {
    Terminal(Box<DefaultEditor>),
    Pipe(io::Lines<io::StdinLock<'static>>),
}

impl Lines {
    fn new() -> Result<Self> {
        Ok(if io::stdin().is_terminal() {
            Self::Terminal(Box::new(DefaultEditor::new()?))
        } else {
            Self::Pipe(io::stdin().lock().lines())
        })
    }

    fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Pipe(lines) => Ok(lines.next().transpose()?),
            Self::Terminal(editor) => {
                io::stdout().flush()?;
                loop {
                    match editor.readline("> ") {
                        Ok(line) => {
                            editor.add_history_entry(&line)?;
                            return Ok(Some(line));
                        }
                        Err(ReadlineError::Interrupted) => {}
                        Err(ReadlineError::Eof) => return Ok(None),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }
}
