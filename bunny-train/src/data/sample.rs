//! A record as the model learns it: its tokens, and which of them are answers.
//!
//! Which tokens are learnt is known by construction: the tokenizer says which tokens hold an
//! answer. The reference finds them by counting tokens of separately tokenised pieces, which loses
//! the rest of a conversation after an answer that contains ` ASSISTANT: `, and empties a sample
//! in silence where the counts do not meet. Everything else is as there: an answer is learnt from
//! the token that holds the space behind `ASSISTANT:` to its end of text; of a caption, the words
//! and a line break.

use std::ops::Range;

use bunny_core::input::{
    conversation::{Conversation, Template},
    tokenizer::{IMAGE_TOKEN_INDEX, Token, Tokenizer},
};
use bunny_data::record::Record;

use crate::error::SampleError;

/// The label of a token that is not learnt, in the reference's notation.
pub const IGNORE_INDEX: i64 = -100;

/// A record as tokens, answers and pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The record's name.
    pub id: String,
    /// Tokens and picture slots.
    pub tokens: Vec<Token>,
    /// Which of `tokens` are learnt; in order, not overlapping.
    pub answers: Vec<Range<usize>>,
    /// Names of the pictures of the slots, in order.
    pub pictures: Vec<String>,
}

impl Sample {
    /// What `template` makes of a record.
    ///
    /// Pictures that no turn has a place for are left out, as in the reference;
    /// [`Sample::pictures`] is then empty.
    ///
    /// # Errors
    /// When there is nothing to learn from the record, or it contradicts itself.
    pub fn new(
        record: &Record,
        template: Template,
        tokenizer: &Tokenizer,
    ) -> Result<Self, SampleError> {
        let turns = record.conversations.iter();
        let sentences = turns.map(|turn| (turn.from.as_str(), turn.value.as_str()));
        let has_picture = record.image.is_some();
        let conversation = Conversation::from_record(template, sentences, has_picture)?;
        let messages = conversation.messages();
        if messages.len() < 2 {
            return Err(SampleError::NoAnswer);
        }
        // The person's messages come first and at every other place.
        let mut answers = messages.iter().enumerate().skip(1).step_by(2);
        if let Some((message, _)) = answers.find(|(_, answer)| answer.is_empty()) {
            return Err(SampleError::EmptyAnswer { message });
        }
        let encoded = tokenizer.encode(&conversation.segments(false))?;
        let (slots, given) = (encoded.pictures(), record.images().len());
        if slots != given && slots != 0 {
            return Err(SampleError::Pictures { slots, given });
        }
        Ok(Self {
            id: record.id.clone(),
            pictures: record.images()[..slots].to_vec(),
            tokens: encoded.tokens,
            answers: encoded.answers,
        })
    }

    /// The label of every token in the reference's notation: its id where it is learnt, else
    /// [`IGNORE_INDEX`].
    pub fn labels(&self) -> Vec<i64> {
        let mut labels = vec![IGNORE_INDEX; self.tokens.len()];
        for place in self.answers.iter().cloned().flatten() {
            let id = self.tokens[place].input_id();
            if id != IMAGE_TOKEN_INDEX {
                labels[place] = id;
            }
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use bunny_data::record::{Images, RecordFile, Turn};

    use super::*;
    use crate::testing::{model_folder, training_fixture, training_fixture_json};

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_folder(model_folder("phi-siglip")).unwrap()
    }

    fn record(image: Option<&str>, turns: &[&str]) -> Record {
        let speakers = [Turn::human as fn(String) -> Turn, Turn::gpt];
        Record {
            id: "r".into(),
            image: image.map(|name| Images::One(name.into())),
            conversations: turns
                .iter()
                .zip(speakers.into_iter().cycle())
                .map(|(text, speaker)| speaker((*text).to_owned()))
                .collect(),
            ..Record::default()
        }
    }

    #[test]
    fn ids_and_labels_are_the_references() {
        let tokenizer = tokenizer();
        let expected = training_fixture_json("labels.json");
        for (file, template) in [("pretrain", Template::Plain), ("finetune", Template::Bunny)] {
            let records = RecordFile::open(training_fixture(&format!("{file}.json"))).unwrap();
            let list = expected[file].as_array().unwrap();
            assert_eq!(records.len(), list.len());
            for (index, expected) in list.iter().enumerate() {
                let record = records.get(index).unwrap();
                let sample = Sample::new(&record, template, &tokenizer).unwrap();
                let ids: Vec<i64> = sample.tokens.iter().map(|t| t.input_id()).collect();
                let numbers = |field: &str| -> Vec<i64> {
                    let list = expected[field].as_array().unwrap();
                    list.iter().map(|id| id.as_i64().unwrap()).collect()
                };
                assert_eq!(ids, numbers("input_ids"), "ids of {file} {}", record.id);
                assert_eq!(
                    sample.labels(),
                    numbers("labels"),
                    "labels of {file} {}",
                    record.id
                );
            }
        }
    }

    #[test]
    fn an_answer_that_quotes_the_template_keeps_its_tail() {
        let tokenizer = tokenizer();
        let answer = "He said ASSISTANT: no. USER: why?";
        let sample = Sample::new(
            &record(None, &["What did he say?", answer]),
            Template::Bunny,
            &tokenizer,
        )
        .unwrap();
        let learnt: Vec<u32> = sample
            .labels()
            .into_iter()
            .filter(|label| *label != IGNORE_INDEX)
            .map(|label| label as u32)
            .collect();
        assert_eq!(tokenizer.decode(&learnt).unwrap(), format!(" {answer}"));
        assert_eq!(learnt.last().copied(), tokenizer.special_tokens().eos);
    }

    #[test]
    fn what_cannot_be_learnt_from_is_refused() {
        let tokenizer = tokenizer();
        let fault = |record: &Record| Sample::new(record, Template::Bunny, &tokenizer).unwrap_err();
        assert!(matches!(
            fault(&record(None, &["Why?", ""])),
            SampleError::EmptyAnswer { message: 1 }
        ));
        assert!(matches!(
            fault(&record(None, &["Why?"])),
            SampleError::NoAnswer
        ));
        let two_places = record(Some("a.png"), &["<image>\nA?", "b", "<image>\nC?", "d"]);
        assert!(matches!(
            fault(&two_places),
            SampleError::Pictures { slots: 2, given: 1 }
        ));
        let mut twice = record(None, &["Why?", "So."]);
        twice.conversations.push(Turn::gpt("And so."));
        assert!(matches!(fault(&twice), SampleError::Conversation(_)));
    }

    #[test]
    fn a_picture_without_a_place_is_left_out() {
        let sample = Sample::new(
            &record(Some("a.png"), &["Why?", "So."]),
            Template::Bunny,
            &tokenizer(),
        )
        .unwrap();
        assert!(sample.pictures.is_empty());
    }
}
