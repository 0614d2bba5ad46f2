//! A row of answers, as the reference writes it, and what it was asked with.

use serde::Deserialize;

use super::{Model, Reply, short};
use crate::python::json;
use crate::question::{Question, QuestionId};
use crate::text::Text;

/// What an answer depends on: options as they are, the rest each as a short hash.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Mark {
    pub(super) prompt: String,
    pub(super) pictures: String,
    pub(super) options: String,
    pub(super) model: String,
}

impl Mark {
    /// The first thing that differs, as it was and as it is now.
    pub(super) fn difference<'a>(
        &'a self,
        now: &'a Self,
    ) -> Option<(&'static str, &'a str, &'a str)> {
        let parts = [
            ("prompts", &self.prompt, &now.prompt),
            ("pictures", &self.pictures, &now.pictures),
            ("options", &self.options, &now.options),
            ("models", &self.model, &now.model),
        ];
        let differing = parts.into_iter().find(|(_, stored, now)| stored != now);
        differing.map(|(what, stored, now)| (what, stored.as_str(), now.as_str()))
    }
}

/// What is looked at in a stored row.
pub(super) struct Stored {
    pub question_id: QuestionId,
    pub model_id: String,
    pub asked: Mark,
}

pub(super) fn read(line: &[u8]) -> serde_json::Result<Stored> {
    #[derive(Deserialize)]
    struct Row {
        question_id: QuestionId,
        model_id: String,
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        asked: Mark,
    }
    let row: Row = serde_json::from_slice(line)?;
    Ok(Stored {
        question_id: row.question_id,
        model_id: row.model_id,
        asked: row.metadata.asked,
    })
}

/// The line of an answer: the reference's keys, in its order and its spelling of JSON.
///
/// `answer_id` is made from what was asked: the same run writes the same bytes.
pub(super) fn line(
    question: &Question,
    text: &str,
    reply: &Reply,
    mark: &Mark,
    model: &Model,
) -> String {
    let string = |text: &str| {
        let mut out = String::new();
        json::string(&mut out, &Text::from(text));
        out
    };
    let id = match &question.id {
        QuestionId::Number(number) => number.to_string(),
        QuestionId::Text(text) => string(text),
    };
    let prompt = question.recorded.as_deref().unwrap_or(&question.text);
    let own = format!(
        "{id} {} {} {} {}",
        mark.prompt, mark.pictures, mark.options, mark.model
    );
    let finish = if reply.is_cut { "length" } else { "stop" };
    format!(
        "{{\"question_id\": {id}, \"prompt\": {}, \"text\": {}, \"answer_id\": \"{}\", \
         \"model_id\": {}, \"metadata\": {{\"asked\": {{\"prompt\": \"{}\", \"pictures\": \"{}\", \
         \"options\": {}, \"model\": \"{}\"}}, \"tokens\": {}, \"finish\": \"{finish}\"}}}}\n",
        string(prompt),
        string(text),
        short(own.as_bytes()),
        string(&model.name),
        mark.prompt,
        mark.pictures,
        string(&mark.options),
        mark.model,
        reply.tokens,
    )
}
