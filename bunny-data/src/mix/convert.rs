//! One record of a source, as the text that stands in the mix.

use serde::Deserialize;
use serde_json::Value;

use super::boxes::convert_boxes;
use super::{Source, SourceFormat};
use crate::error::{DataError, Result};
use crate::images::{ImageSource, dimensions};
use crate::record::{Read, Record, Turn, one_line};

/// A record as Alpaca and WizardLM write it; `input` is more text for the instruction, often empty.
#[derive(Debug, Deserialize)]
struct Instruction {
    instruction: String,
    #[serde(default)]
    input: Option<String>,
    output: String,
}

impl Source {
    /// Record `index`, read in the source's format, as a [`Record`].
    pub(super) fn record(&self, index: usize) -> Result<Record> {
        Ok(self.read(index, &self.file.raw(index)?)?.record)
    }

    fn read(&self, index: usize, raw: &[u8]) -> Result<Read> {
        let (mut record, is_own_form) = match self.spec.format {
            SourceFormat::Llava => {
                let read: Read = self.file.parse(index, raw)?;
                (read.record, read.is_own_form)
            }
            SourceFormat::Alpaca => {
                let Instruction {
                    mut instruction,
                    input,
                    output,
                } = self.file.parse(index, raw)?;
                if let Some(input) = input.filter(|input| !input.is_empty()) {
                    instruction.push('\n');
                    instruction.push_str(&input);
                }
                let record = Record {
                    id: format!("{}_{index}", self.spec.name),
                    conversations: vec![Turn::human(instruction), Turn::gpt(output)],
                    ..Record::default()
                };
                (record, false)
            }
        };
        if let Some(prefix) = &self.spec.ids {
            record.id = format!("{prefix}{index}");
        }
        Ok(Read {
            record,
            is_own_form,
        })
    }

    /// The text of record `index` in the mix. A record that nothing changes keeps its bytes, but for
    /// the line breaks of indented files.
    pub(super) fn render(&self, index: usize, images: Option<&ImageSource>) -> Result<Vec<u8>> {
        let raw = self.file.raw(index)?;
        // Read whether it changes or not: what is no record must not get into a mix.
        let Read {
            record,
            is_own_form,
        } = self.read(index, &raw)?;
        let spec = &self.spec;
        if spec.format == SourceFormat::Alpaca {
            return Ok(json(&record));
        }
        let written;
        let raw = match is_own_form {
            true => &*raw,
            // In the form that everyone reads who trains on LLaVA's records.
            false => {
                written = json(&record);
                &written
            }
        };
        if spec.ids.is_none() && spec.image_root.is_none() && spec.boxes.is_none() {
            return Ok(one_line(raw));
        }
        // Changed in place, so that whatever else a record and its turns have stays.
        let mut value: Value = self.file.parse(index, raw)?;
        if spec.ids.is_some() {
            value["id"] = record.id.clone().into();
        }
        if spec.image_root.is_some() {
            match &mut value["image"] {
                Value::String(path) => *path = spec.rooted(path),
                Value::Array(paths) => paths.iter_mut().for_each(|path| {
                    if let Value::String(path) = path {
                        *path = spec.rooted(path);
                    }
                }),
                _ => {}
            }
            if value["image"].is_null() {
                value
                    .as_object_mut()
                    .map(|fields| fields.shift_remove("image"));
            }
        }
        if let (Some(boxes), Some(images), [name, ..]) = (spec.boxes, images, record.images()) {
            let size = self.size(name, images)?;
            for turn in value["conversations"].as_array_mut().into_iter().flatten() {
                if let Value::String(text) = &mut turn["value"] {
                    *text = convert_boxes(text, size, boxes.from, boxes.to);
                }
            }
        }
        Ok(json(&value))
    }

    /// Width and height of a picture, which lies where the mix says or where the source does.
    fn size(&self, name: &str, images: &ImageSource) -> Result<(u32, u32)> {
        let rooted = self.spec.rooted(name);
        let (name, bytes) = match images.read(&rooted) {
            Err(DataError::NoPicture { .. }) if images.contains(name) => (name, images.read(name)?),
            found => (&*rooted, found?),
        };
        dimensions(&bytes).ok_or_else(|| DataError::NotAPicture {
            path: images.path().to_owned(),
            name: name.to_owned(),
        })
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and their lists always have a JSON text")
}
