//! A conversation typed line by line.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Result, bail};
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
/// When the terminal fails. What fails otherwise is told to a person, who goes on; what is piped in
/// ends with it.
pub(super) fn run<B: Backend>(turns: &mut Turns<B>, pictures: Vec<RgbImage>) -> Result<()> {
    let mut pictures = pictures;
    let mut lines = Lines::new()?;
    let has_person = matches!(lines, Lines::Terminal(_));
    if has_person {
        eprintln!("Ask away; /help lists the commands.");
    }
    while let Some(line) = lines.next()? {
        let line = line.trim();
        if matches!(line.split(' ').next(), Some("/exit" | "/quit")) {
            break;
        }
        match obey(turns, &mut pictures, line) {
            Err(error) if has_person => eprintln!("error: {}", one_line(&error)),
            done => done?,
        }
    }
    Ok(())
}

/// Does what one line says: a command, or a turn. `pictures` wait for the next turn.
fn obey<B: Backend>(turns: &mut Turns<B>, pictures: &mut Vec<RgbImage>, line: &str) -> Result<()> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match (command, rest.trim()) {
        ("", _) => {}
        ("/help", _) => eprintln!("{HELP}"),
        ("/clear", _) => {
            turns.chat.clear();
            pictures.clear();
        }
        ("/image", "") => bail!("/image lacks its picture: write /image FILE or /image URL"),
        ("/image", name) => pictures.push(picture::read(name)?),
        (command, _) if command.starts_with('/') && !command[1..].contains('/') => {
            bail!("no command `{command}`; /help lists them");
        }
        _ => {
            turns.take(line, pictures)?;
            pictures.clear();
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
