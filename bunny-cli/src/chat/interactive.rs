//! A conversation typed line by line.

use std::{
    env,
    io::{self, BufRead, IsTerminal, Write},
    ops::ControlFlow,
};

use anyhow::{Context, Result};
use bunny_base::escape::for_terminal;
use bunny_core::generate::{HELP, Typed};
use burn::tensor::backend::Backend;
use image::RgbImage;
use rustyline::{CompletionType, Config, Editor, error::ReadlineError, history::DefaultHistory};

use super::{Turns, completion::Completion};
use crate::{args::PictureArgs, one_line, picture};

/// Reads turns until the person has had enough. `pictures` belong to the first; more may come `from` where
/// it says.
///
/// # Errors
/// When the terminal fails. What fails otherwise is told to a person, who goes on; what is piped in
/// ends with it.
pub(super) fn run<B: Backend>(
    turns: &mut Turns<B>,
    pictures: Vec<RgbImage>,
    from: PictureArgs,
) -> Result<()> {
    let mut pictures = pictures;
    let mut lines = Lines::new()?;
    let has_person = matches!(lines, Lines::Terminal(_));
    if has_person {
        eprintln!("Ask away; /help lists the commands.");
    }
    while let Some(line) = lines.next()? {
        match obey(turns, &mut pictures, from, &line, has_person) {
            Err(error) if has_person => eprintln!("error: {}", for_terminal(&one_line(&error))),
            done => {
                if done?.is_break() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Does what one line says: a command, or a turn. `pictures` wait for the next turn. Breaks when the
/// person has had enough.
fn obey<B: Backend>(
    turns: &mut Turns<B>,
    pictures: &mut Vec<RgbImage>,
    from: PictureArgs,
    line: &str,
    has_person: bool,
) -> Result<ControlFlow<()>> {
    let home = env::var("HOME").ok();
    match Typed::parse(line, home.as_deref())? {
        Typed::Nothing => {}
        Typed::End => return Ok(ControlFlow::Break(())),
        Typed::Help => eprintln!("{HELP}\nCtrl-C            stop an answer"),
        Typed::Clear => {
            turns.chat.clear();
            pictures.clear();
        }
        Typed::Image(name) => {
            let shown = picture::read_named(&name, from)?;
            picture::draw(&shown)?;
            let (width, height) = shown.dimensions();
            pictures.push(shown);
            if has_person {
                let waiting = match pictures.len() {
                    1 => String::new(),
                    2 => ", as is the one before it".to_owned(),
                    count => format!(", as are the {} before it", count - 1),
                };
                eprintln!("{width} × {height} pixels, shown with your next message{waiting}");
            }
        }
        Typed::Message(text) => {
            turns.take(text, pictures).map_err(with_way_out)?;
            pictures.clear();
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Says what helps where a conversation has outgrown its model.
fn with_way_out(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<bunny_core::Error>() {
        Some(too_long @ bunny_core::Error::TooLong { .. }) => {
            anyhow::anyhow!("{too_long}: /clear begins a new one")
        }
        _ => error,
    }
}

/// Lines from a terminal with editing and history, or from a pipe.
enum Lines {
    Terminal(Box<Editor<Completion, DefaultHistory>>),
    Pipe(io::Lines<io::StdinLock<'static>>),
}

impl Lines {
    fn new() -> Result<Self> {
        Ok(if io::stdin().is_terminal() {
            let config = Config::builder().completion_type(CompletionType::List);
            let mut editor = Editor::with_config(config.build())?;
            editor.set_helper(Some(Completion::new()));
            Self::Terminal(Box::new(editor))
        } else {
            Self::Pipe(io::stdin().lock().lines())
        })
    }

    fn next(&mut self) -> Result<Option<String>> {
        match self {
            Self::Pipe(lines) => lines.next().transpose().context("standard input"),
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
