//! Pictures and texts that a model is measured on: one's own, or a small set that is drawn and said here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bunny_core::{
    generate::{Picture, Pipeline, Prompt},
    input::{
        conversation::{Conversation, Message},
        image::{DecodeOptions, decode, decode_file},
    },
};
use bunny_data::picture_world::{PairKind, paint, pair};
use burn::tensor::backend::Backend;
use image::RgbImage;

/// Pictures of the small set.
const DRAWN: usize = 6;

/// Tokens of a text that are read; what is longer is cut.
const LONGEST: usize = 512;

/// Questions and answers of the small set.
const SAID: [[&str; 2]; 12] = [
    [
        "Why does bread rise?",
        "Yeast turns sugar into gas, and the dough holds the bubbles until the heat of the oven sets them.",
    ],
    ["What is the capital of Portugal?", "Lisbon."],
    [
        "Name three animals that sleep through the winter.",
        "Hedgehogs, dormice and marmots.",
    ],
    [
        "How many minutes are there in three hours?",
        "There are 180 minutes in three hours.",
    ],
    [
        "Translate into German: the window is open.",
        "Das Fenster ist offen.",
    ],
    [
        "Write a line of Python that adds up the numbers of a list.",
        "total = sum(numbers)",
    ],
    [
        "Is a tomato a fruit?",
        "Yes. To a botanist it is a berry, though cooks treat it as a vegetable.",
    ],
    [
        "Who was Marie Curie?",
        "A physicist and chemist, born in Warsaw in 1867, who studied radioactivity and received two Nobel Prizes.",
    ],
    [
        "Explain in one sentence why the sea is salty.",
        "Rain washes salts out of rocks into rivers, and the sea keeps them while its water evaporates.",
    ],
    [
        "I have 12 apples and give away a third of them. How many are left?",
        "A third of 12 is 4, so 8 apples are left.",
    ],
    [
        "Suggest a title for a story about a lost dog.",
        "The Long Way Home",
    ],
    [
        "What should I pack for a day in the mountains?",
        "Water, food, a warm layer, a rain jacket, sun cream, a map and a charged phone.",
    ],
];

/// Something to be read.
#[derive(Debug, Clone)]
pub struct Sample {
    /// A picture that is shown.
    picture: Option<RgbImage>,
    /// What is asked; nothing where a text stands alone.
    question: Option<String>,
    /// What is answered, or the text.
    text: Option<String>,
}

/// The samples of files and folders, or the small set where none are named.
///
/// # Errors
/// When one cannot be read, is neither picture nor text, or there is none at all.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Sample>> {
    if paths.is_empty() {
        return small_set();
    }
    let mut samples = Vec::new();
    for path in paths {
        if !path.is_dir() {
            samples.extend(of_file(path)?);
            continue;
        }
        let entries = path
            .read_dir()
            .with_context(|| path.display().to_string())?;
        let mut files: Vec<PathBuf> = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<std::io::Result<_>>()
            .with_context(|| path.display().to_string())?;
        files.sort();
        files.retain(|file| is_text(file) || is_picture(file));
        if files.is_empty() {
            bail!(
                "{}: no pictures and no .txt or .md in this folder",
                path.display()
            );
        }
        for file in files {
            samples.extend(of_file(&file)?);
        }
    }
    Ok(samples)
}

fn has_ending(file: &Path, endings: &[&str]) -> bool {
    let ending = file.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        endings
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
    })
}

fn is_text(file: &Path) -> bool {
    has_ending(file, &["txt", "md"])
}

fn is_picture(file: &Path) -> bool {
    let known = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
    has_ending(file, &known)
}

/// A picture, or the paragraphs of a text.
fn of_file(file: &Path) -> Result<Vec<Sample>> {
    if is_text(file) {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let paragraphs = text.split("\n\n").map(str::trim);
        let paragraphs = paragraphs.filter(|paragraph| !paragraph.is_empty());
        let samples: Vec<Sample> = paragraphs
            .map(|paragraph| Sample {
                picture: None,
                question: None,
                text: Some(paragraph.into()),
            })
            .collect();
        if samples.is_empty() {
            bail!("{}: no text in this file", file.display());
        }
        return Ok(samples);
    }
    Ok(vec![Sample {
        picture: Some(decode_file(file, DecodeOptions::upright())?),
        question: Some("Describe the image in detail.".into()),
        text: None,
    }])
}

/// Drawn pictures with what is true of them, and questions of many kinds.
fn small_set() -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let pairs = (0..1000).map(|index| pair(7, index, 1000));
    let right = pairs.filter(|pair| matches!(pair.kind, PairKind::Right));
    for pair in right.take(DRAWN) {
        let jpeg = paint(&pair.scene, &pair.finish).to_jpeg(90);
        samples.push(Sample {
            picture: Some(decode(&jpeg, DecodeOptions::default())?),
            question: Some("What is in the picture?".into()),
            text: Some(pair.caption),
        });
    }
    samples.extend(SAID.map(|[question, answer]| Sample {
        picture: None,
        question: Some(question.into()),
        text: Some(answer.into()),
    }));
    Ok(samples)
}

impl Sample {
    /// All of it as a model reads it.
    ///
    /// # Errors
    /// When its words are none that the template takes.
    pub fn whole<B: Backend>(&self, pipeline: &Pipeline<B>) -> Result<Prompt<B>> {
        let mut tokens = match &self.question {
            None => pipeline
                .tokenizer
                .encode_prompt(self.text.as_deref().unwrap_or_default())?,
            Some(question) => {
                let mut conversation = self.asked(pipeline, question)?;
                if let Some(text) = &self.text {
                    conversation.push(Message::assistant(text))?;
                }
                let is_open = self.text.is_none();
                pipeline
                    .tokenizer
                    .encode(&conversation.segments(is_open))?
                    .tokens
            }
        };
        let context = pipeline.model.config().decoder.max_position_embeddings;
        let pictures = self.pictures(pipeline);
        let shown = pictures.len() * pipeline.model.config().vision.tokens();
        let room = context.saturating_sub(shown);
        tokens.truncate(LONGEST.min(room));
        Ok(Prompt { tokens, pictures })
    }

    /// What is asked, to be answered; nothing where a text stands alone.
    ///
    /// # Errors
    /// When its words are none that the template takes.
    pub fn question<B: Backend>(&self, pipeline: &Pipeline<B>) -> Result<Option<Prompt<B>>> {
        let Some(question) = &self.question else {
            return Ok(None);
        };
        let conversation = self.asked(pipeline, question)?;
        let tokens = pipeline
            .tokenizer
            .encode(&conversation.segments(true))?
            .tokens;
        let pictures = self.pictures(pipeline);
        Ok(Some(Prompt { tokens, pictures }))
    }

    fn asked<B: Backend>(&self, pipeline: &Pipeline<B>, question: &str) -> Result<Conversation> {
        let mut message = Message::user(question);
        if self.picture.is_some() {
            message = message.with_picture();
        }
        let mut conversation = Conversation::new(pipeline.template);
        conversation.push(message)?;
        Ok(conversation)
    }

    fn pictures<B: Backend>(&self, pipeline: &Pipeline<B>) -> Vec<Picture<B>> {
        let pictures = self.picture.iter();
        pictures
            .map(|picture| Picture::new(pipeline.image_processor.process(picture)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("b.txt"), "One.\n\nTwo,\nstill.\n\n\n").unwrap();
        std::fs::write(at("notes.csv"), "a,b").unwrap();
        RgbImage::new(3, 2).save(at("a.PNG")).unwrap();
        let samples = read(&[folder.path().into()]).unwrap();
        let texts: Vec<Option<&str>> = samples.iter().map(|one| one.text.as_deref()).collect();
        assert_eq!(texts, [None, Some("One."), Some("Two,\nstill.")]);
        assert!(samples[0].picture.is_some() && samples[0].question.is_some());

        std::fs::write(at("empty.md"), " \n\n").unwrap();
        for (path, says) in [
            (at("empty.md"), "no text"),
            (at("nowhere.txt"), "nowhere.txt"),
            (at("notes.csv"), "notes.csv"),
        ] {
            let error = format!("{:#}", read(&[path]).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn the_small_set_is_of_pictures_and_words() {
        let samples = read(&[]).unwrap();
        let drawn = samples.iter().filter(|one| one.picture.is_some()).count();
        assert_eq!((drawn, samples.len()), (DRAWN, DRAWN + SAID.len()));
    }
}
