//! A model that answers through the engine.
//!
//! Questions about one picture follow each other: what they begin with, the system text and the
//! picture, is then read once, and the tower runs once.

use std::collections::HashMap;
use std::sync::Arc;

use bunny_core::generate::{
    Engine, EngineOptions, FinishReason, GenerationOptions, Picture, Pipeline, Prompt, SequenceId,
    Update,
};
use bunny_core::input::image::{DecodeOptions, ImageProcessor, decode};
use bunny_eval::run::{Answerer, Asked, Model, Options, Reply};
use bunny_eval::{EvalError, Failure};
use burn::tensor::backend::Backend;

/// What is kept of a question that has more positions than the model: one such is no reason to answer
/// no other.
const TOO_LONG: Reply = Reply {
    text: String::new(),
    tokens: 0,
    is_cut: true,
};

/// A model on a device here.
#[derive(Debug)]
pub struct Local<'a, B: Backend> {
    pipeline: &'a Pipeline<B>,
    engine: Engine<B>,
    model: Model,
    slots: usize,
    /// How pictures are fitted.
    pub processor: ImageProcessor,
    /// The picture that was shown last, as it was encoded and as the tower gets it.
    shown: Option<(Arc<[u8]>, ImageProcessor, Picture<B>)>,
}

impl<'a, B: Backend> Local<'a, B> {
    /// A model that answers `slots` questions at once.
    pub fn new(pipeline: &'a Pipeline<B>, model: Model, slots: usize) -> Self {
        let options = EngineOptions {
            slots,
            // There is nobody to hold up.
            chunk: 4096,
            ..EngineOptions::default()
        };
        Self {
            engine: pipeline.engine(options),
            processor: pipeline.image_processor.clone(),
            pipeline,
            model,
            slots,
            shown: None,
        }
    }

    /// Hands a question to the engine; `None` where the model has no positions for it.
    fn admit(
        &mut self,
        asked: &Asked,
        options: &GenerationOptions,
    ) -> Result<Option<SequenceId>, Failure> {
        let mut pictures = Vec::with_capacity(asked.pictures.len());
        for picture in &asked.pictures {
            pictures.push(self.picture(picture)?);
        }
        let tokens = self.pipeline.tokenizer.encode_prompt(&asked.prompt)?;
        let sequence = self.pipeline.sequence(&tokens, options);
        match self.engine.admit(Prompt { tokens, pictures }, sequence) {
            Ok(id) => Ok(Some(id)),
            Err(error @ bunny_core::Error::TooLong { .. }) => {
                tracing::warn!("{}: {error}: it is answered with nothing", asked.told());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn picture(&mut self, bytes: &Arc<[u8]>) -> Result<Picture<B>, Failure> {
        if let Some((shown, processor, picture)) = &self.shown
            && (Arc::ptr_eq(shown, bytes) || shown == bytes)
            && *processor == self.processor
        {
            return Ok(picture.clone());
        }
        let decoded = decode(bytes, DecodeOptions::default())?;
        let picture = Picture::new(self.processor.process(&decoded));
        self.shown = Some((bytes.clone(), self.processor.clone(), picture.clone()));
        Ok(picture)
    }

    fn answers(
        &mut self,
        asked: Vec<Asked>,
        options: &Options,
        done: &mut dyn FnMut(usize, Reply) -> Result<(), EvalError>,
    ) -> Result<(), Failure> {
        let options = GenerationOptions {
            max_new_tokens: options.max_new_tokens,
            ..GenerationOptions::default()
        };
        let mut under_way = HashMap::with_capacity(2 * self.slots);
        let mut waiting = by_picture(asked).into_iter();
        loop {
            // As many again wait in the engine: it seats those first whose beginning it knows.
            for asked in waiting.by_ref().take(2 * self.slots - under_way.len()) {
                let id = self
                    .admit(&asked, &options)
                    .map_err(|error| of_question(&asked, error))?;
                match id {
                    Some(id) => {
                        under_way.insert(id, asked);
                    }
                    None => done(asked.place, TOO_LONG)?,
                }
            }
            if under_way.is_empty() {
                match waiting.len() {
                    0 => return Ok(()),
                    // None of those had room.
                    _ => continue,
                }
            }
            for (id, update) in self.engine.step() {
                match update {
                    Update::Finished(answer) => {
                        if let Some(asked) = under_way.remove(&id) {
                            let sequence = &answer.sequence;
                            let reply = Reply {
                                text: sequence.text().to_owned(),
                                tokens: sequence.ids().len(),
                                is_cut: sequence.finish() == Some(FinishReason::Length),
                            };
                            done(asked.place, reply)?;
                        }
                    }
                    Update::Failed(error) => {
                        return Err(match under_way.get(&id) {
                            Some(asked) => of_question(asked, error.into()),
                            None => error.into(),
                        });
                    }
                    _ => {}
                }
            }
        }
    }
}

impl<B: Backend> Answerer for Local<'_, B> {
    fn model(&self) -> Model {
        self.model.clone()
    }

    fn answer(
        &mut self,
        asked: Vec<Asked>,
        options: &Options,
        done: &mut dyn FnMut(usize, Reply) -> Result<(), EvalError>,
    ) -> Result<(), Failure> {
        let answered = self.answers(asked, options, done);
        if answered.is_err() {
            self.engine.cancel_all();
        }
        answered
    }
}

fn of_question(asked: &Asked, error: Failure) -> Failure {
    format!("{}: {error}", asked.told()).into()
}

/// The same questions, those about one picture together; groups and their questions keep their
/// order.
fn by_picture(mut asked: Vec<Asked>) -> Vec<Asked> {
    let key = |one: &Asked| -> Vec<*const u8> {
        one.pictures
            .iter()
            .map(|picture| picture.as_ptr())
            .collect()
    };
    let mut groups = HashMap::new();
    for one in &asked {
        let next = groups.len();
        groups.entry(key(one)).or_insert(next);
    }
    asked.sort_by_key(|one| groups[&key(one)]);
    asked
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use bunny_core::checkpoint::{ModelSource, Precision};
    use bunny_eval::{QuestionId, Template};
    use burn_flex::Flex;
    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;

    fn picture(colour: [u8; 3]) -> Arc<[u8]> {
        let picture = RgbImage::from_fn(9, 7, |x, _| match x {
            0..5 => Rgb(colour),
            _ => Rgb([9, 99, 199]),
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner().into()
    }

    fn asked() -> Vec<Asked> {
        let pictures = [[200, 0, 0], [0, 200, 0], [0, 0, 200]].map(picture);
        let texts = ["What is this?", "Is it red?", "How many?", "Why?"];
        let prompt = |text: &str, shown: &str| {
            let question = bunny_eval::Question {
                id: QuestionId::Number(0),
                category: String::new(),
                text: text.to_owned(),
                recorded: None,
                pictures: Vec::new(),
                options: Vec::new(),
            };
            Template::Bunny
                .prompt(&question)
                .replace("USER: ", &format!("USER: {shown}"))
        };
        (0..14)
            .map(|place| {
                // The last two are asked without a picture.
                let shown = (place < 12).then(|| pictures[place % 3].clone());
                Asked {
                    place,
                    id: QuestionId::Number(place as i64),
                    prompt: prompt(
                        texts[place % 4],
                        if shown.is_some() { "<image>\n" } else { "" },
                    ),
                    pictures: shown.into_iter().collect(),
                    picture_names: Vec::new(),
                }
            })
            .collect()
    }

    fn pipeline() -> Pipeline<Flex> {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/models/phi-siglip"
        );
        Pipeline::load(
            &ModelSource::merged(folder),
            Precision::F32,
            Default::default(),
        )
        .unwrap()
    }

    fn answers(local: &mut Local<'_, Flex>, asked: Vec<Asked>) -> Vec<Reply> {
        let options = Options {
            max_new_tokens: 6,
            more: Default::default(),
        };
        let mut replies: Vec<Option<Reply>> = vec![None; 14];
        local
            .answer(asked, &options, &mut |place, reply| {
                assert!(replies[place].replace(reply).is_none(), "{place} twice");
                Ok(())
            })
            .unwrap();
        replies.into_iter().flatten().collect()
    }

    fn model() -> Model {
        Model {
            name: "tiny".to_owned(),
            fingerprint: String::new(),
        }
    }

    #[test]
    fn no_answer_hangs_on_its_company() {
        let pipeline = pipeline();
        let alone = answers(&mut Local::new(&pipeline, model(), 1), asked());
        assert_eq!(alone.len(), 14);
        let mut together = Local::new(&pipeline, model(), 5);
        let mut turned = asked();
        turned.reverse();
        assert_eq!(answers(&mut together, turned), alone);
        // What was read before may be taken, and changes nothing.
        assert_eq!(answers(&mut together, asked()), alone);
        let cut = alone.iter().filter(|reply| reply.is_cut).count();
        let full = alone.iter().filter(|reply| reply.tokens == 6).count();
        assert!(cut <= full && alone.iter().all(|reply| reply.tokens <= 6));
    }

    #[test]
    fn a_question_that_cannot_be_asked_is_named_and_leaves_nothing_behind() {
        let pipeline = pipeline();
        let mut local = Local::new(&pipeline, model(), 2);
        let mut broken = asked();
        broken[3].pictures = vec![(*b"no picture").into()];
        broken[3].picture_names = vec!["a.jpg".to_owned()];
        let options = Options {
            max_new_tokens: 6,
            more: Default::default(),
        };
        let error = local
            .answer(broken, &options, &mut |_, _| Ok(()))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("question_id 3 (a.jpg): "), "{error}");
        assert!(local.engine.is_idle());
        assert_eq!(answers(&mut local, asked()).len(), 14);
    }

    #[test]
    fn a_question_too_long_for_the_model_is_answered_with_nothing() {
        let pipeline = pipeline();
        let expected = answers(&mut Local::new(&pipeline, model(), 2), asked());
        let mut long = asked();
        for place in [5, 6, 12, 13] {
            long[place].prompt = "word ".repeat(5000);
            long[place].pictures.clear();
        }
        let found = answers(&mut Local::new(&pipeline, model(), 1), long);
        for (place, reply) in found.iter().enumerate() {
            let is_long = [5, 6, 12, 13].contains(&place);
            let expected = if is_long {
                TOO_LONG
            } else {
                expected[place].clone()
            };
            assert_eq!(*reply, expected, "{place}");
        }
    }

    #[test]
    fn questions_about_one_picture_stand_together() {
        let places: Vec<usize> = by_picture(asked())
            .into_iter()
            .map(|one| one.place)
            .collect();
        assert_eq!(places, [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 12, 13]);
    }
}
