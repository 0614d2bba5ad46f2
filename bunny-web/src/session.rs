//! A model in a tab, and the answer that is under way.

use std::sync::Arc;

use bunny_core::{
    checkpoint::{ModelSource, OpenModel, Precision},
    generate::{
        Engine, EngineOptions, Event, FinishReason, Finished, Picture, Pipeline, Prompt, Reuse,
        TokenLogProbability, Update,
    },
    input::{
        conversation::{Conversation, Message, Segment},
        image::{DecodeOptions, Pixels, decode},
        tokenizer::{Encoded, Token},
    },
    nn::WeightFormat,
};
use burn_flex::Flex;
use serde_json::{Value, json};

use crate::request::{Ask, Load, Role};

/// Positions of a prompt that a step reads: a stop is heard behind each.
const CHUNK: usize = 256;
/// Pictures that are kept as they were decoded.
const PICTURES: usize = 16;
/// Bytes up to which a model is held in `f32` whatever its files are: products are fastest there.
const SMALL: u64 = 256 << 20;

/// What went wrong, in words.
pub type Failure = String;

/// A model, and what it is asked.
#[derive(Debug)]
pub struct Session {
    pipeline: Pipeline<Flex>,
    engine: Engine<Flex>,
    /// Those of the conversation to come.
    given: Vec<Arc<Pixels>>,
    /// Pictures that were decoded, by the bytes of their files, the latest last.
    decoded: Vec<(Vec<u8>, Arc<Pixels>)>,
    under_way: Option<UnderWay>,
}

#[derive(Debug, Clone, Copy)]
struct UnderWay {
    /// Whether it has said anything but the space that answers begin with.
    has_begun: bool,
}

impl Session {
    /// Loads a model from files in memory, or the one in this module.
    ///
    /// # Errors
    /// When files are missing or damaged, or do not fit each other.
    pub fn load(load: Load) -> Result<(Self, Value), Failure> {
        let open = open(&load)?;
        let precision = precision(&load.precision, &open)?;
        let pipeline = Pipeline::<Flex>::from_open(open, precision, Default::default())
            .map_err(|error| error.to_string())?;
        let engine = pipeline.engine(EngineOptions {
            slots: 1,
            chunk: CHUNK,
            pictures: PICTURES,
            reuse: Reuse::Everything,
            ..EngineOptions::default()
        });
        let config = pipeline.model.config();
        let said = json!({
            "context": engine.context(),
            "picture_tokens": config.vision.tokens(),
            "parameters": config.parameters().total(),
            "precision": pipeline.model.language_model_format().name(),
        });
        let session = Self {
            pipeline,
            engine,
            given: Vec::new(),
            decoded: Vec::new(),
            under_way: None,
        };
        Ok((session, said))
    }

    /// Takes the next picture of the conversation to come.
    ///
    /// # Errors
    /// When it is none.
    pub fn picture(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        let pixels = self.pixels(bytes).inspect_err(|_| self.given.clear())?;
        self.given.push(pixels);
        Ok(())
    }

    /// Takes those that were given: whatever becomes of their question, they belong to no other.
    pub fn given(&mut self) -> Vec<Arc<Pixels>> {
        std::mem::take(&mut self.given)
    }

    fn pixels(&mut self, bytes: Vec<u8>) -> Result<Arc<Pixels>, Failure> {
        let known = self.decoded.iter().position(|(known, _)| *known == bytes);
        let one = match known {
            Some(at) => self.decoded.remove(at),
            None => {
                let picture = decode(&bytes, DecodeOptions::upright());
                let picture = picture.map_err(|error| error.to_string())?;
                let pixels = self.pipeline.image_processor.process(&picture);
                (bytes, Arc::new(pixels))
            }
        };
        let pixels = one.1.clone();
        self.decoded.push(one);
        if self.decoded.len() > PICTURES {
            self.decoded.remove(0);
        }
        Ok(pixels)
    }

    /// Begins to answer a conversation about the pictures that were [`given`](Self::given); what was under way
    /// is given up.
    ///
    /// # Errors
    /// When there is nothing to answer, pictures are missing, or it does not fit the model.
    pub fn ask(&mut self, ask: Ask, given: Vec<Arc<Pixels>>) -> Result<Value, Failure> {
        self.stop();
        let options = ask.options.read()?;
        let conversation = conversation(&self.pipeline, ask.system, &ask.messages)?;
        let tokens = self.tokens(&conversation.segments(true))?;
        let sequence = self.pipeline.sequence(&tokens, &options);
        let positions = self.pipeline.model.positions(&tokens);
        let prompt = Prompt {
            tokens,
            pictures: given.into_iter().map(Picture::new).collect(),
        };
        let admitted = self.engine.admit(prompt, sequence);
        admitted.map_err(|error| error.to_string())?;
        self.under_way = Some(UnderWay { has_begun: false });
        Ok(json!({"prompt_tokens": positions}))
    }

    fn tokens(&self, segments: &[Segment<'_>]) -> Result<Vec<Token>, Failure> {
        let encoded = self.pipeline.tokenizer.encode(segments);
        let Encoded { tokens, .. } = encoded.map_err(|error| error.to_string())?;
        Ok(tokens)
    }

    /// The ids of a text that is no conversation.
    ///
    /// # Errors
    /// When the tokenizer cannot read it.
    pub fn encode(&self, text: &str) -> Result<Value, Failure> {
        let tokens = self.tokens(&[Segment::Prompt(text)])?;
        let ids: Vec<i64> = tokens.into_iter().map(Token::input_id).collect();
        Ok(json!(ids))
    }

    /// Goes on with the answer: reads some of the prompt, or says one more token. Nothing is under way
    /// behind `finish`.
    ///
    /// # Errors
    /// When the model cannot go on.
    pub fn step(&mut self) -> Result<Value, Failure> {
        let Some(mut under_way) = self.under_way else {
            return Err("nothing was asked".into());
        };
        let (mut text, mut tokens, mut ended) = (String::new(), Vec::new(), None);
        for (_, update) in self.engine.step() {
            match update {
                Update::Token(event) => {
                    let Event {
                        text: new, rest, ..
                    } = &event;
                    text.extend([new.as_str(), rest.as_str()]);
                    tokens.push(token(&event));
                }
                Update::Finished(finished) => ended = Some(*finished),
                Update::Failed(error) => {
                    self.under_way = None;
                    return Err(error.to_string());
                }
                _ => {}
            }
        }
        if !under_way.has_begun {
            // An answer begins with the space behind `ASSISTANT:`.
            text.drain(..text.len() - text.trim_start().len());
            under_way.has_begun = !text.is_empty();
        }
        let mut said = json!({"text": text, "tokens": tokens});
        self.under_way = Some(under_way);
        if let Some(finished) = ended {
            self.under_way = None;
            said["end"] = told(&finished);
        }
        Ok(said)
    }

    /// Gives up what is under way.
    pub fn stop(&mut self) {
        self.engine.cancel_all();
        self.under_way = None;
    }

    /// Forgets all that was said and shown.
    pub fn reset(&mut self) {
        self.stop();
        self.engine.clear();
        self.given.clear();
        self.decoded.clear();
    }

    /// What tower and projector make of a picture: `[tokens, hidden]`, row by row, and its sides.
    ///
    /// # Errors
    /// When it is no picture.
    pub fn embed(&mut self, bytes: Vec<u8>) -> Result<(Vec<f32>, [usize; 2]), Failure> {
        let pixels = self.pixels(bytes)?;
        let Pipeline { model, device, .. } = &self.pipeline;
        let embeddings = model.encode_pictures(&[&pixels], device); // [1, tokens, hidden]
        let [_, tokens, hidden] = embeddings.dims();
        let numbers = embeddings.into_data().convert::<f32>();
        let numbers = numbers.into_vec().map_err(|error| format!("{error:?}"))?;
        Ok((numbers, [tokens, hidden]))
    }
}

fn open(load: &Load) -> Result<OpenModel, Failure> {
    let Some(model) = &load.model else {
        return inside();
    };
    let source = ModelSource {
        model: model.into(),
        base: load.base.as_ref().map(Into::into),
        vision_tower: load.vision_tower.as_ref().map(Into::into),
    };
    source.open().map_err(|error| error.to_string())
}

#[cfg(feature = "builtin-model")]
fn inside() -> Result<OpenModel, Failure> {
    bunny_core::checkpoint::builtin::open().map_err(|error| error.to_string())
}

#[cfg(not(feature = "builtin-model"))]
fn inside() -> Result<OpenModel, Failure> {
    Err("this module carries no model: name one".into())
}

/// What the weights are held in.
fn precision(wanted: &str, open: &OpenModel) -> Result<Precision, Failure> {
    let holding = |format| Precision::holding::<Flex>(&Default::default(), format);
    let stored = holding(open.weights.stored_format());
    let full = holding(WeightFormat::F32);
    Ok(match wanted {
        "auto" if full.bytes(&open.config.describe()) <= SMALL => full,
        "auto" => stored,
        "f32" => full,
        "f16" => holding(WeightFormat::F16),
        packing => {
            let packing = packing.parse();
            let problem =
                |_| format!("`{wanted}` is no precision: take auto, f32, f16, int8 or int4");
            stored.packed(Some(packing.map_err(problem)?))
        }
    })
}

/// The conversation that `messages` are.
fn conversation(
    pipeline: &Pipeline<Flex>,
    system: Option<String>,
    messages: &[crate::request::Message],
) -> Result<Conversation, Failure> {
    let mut conversation = Conversation::new(pipeline.template);
    if let Some(system) = system {
        conversation = conversation.with_system(system);
    }
    for message in messages {
        let one = match message.role {
            Role::User => Message::user(&message.text),
            Role::Assistant => Message::assistant(&message.text),
        };
        let one = (0..message.pictures).fold(one, |one, _| one.with_picture());
        conversation.push(one).map_err(|error| error.to_string())?;
    }
    match messages.last() {
        Some(last) if last.role == Role::User => Ok(conversation),
        _ => Err("the last message must be the user's".into()),
    }
}

fn token(event: &Event) -> Value {
    let mut said = json!({"id": event.id});
    if let Some(TokenLogProbability {
        log_probability,
        top,
        ..
    }) = &event.log_probability
    {
        said["log_probability"] = json!(log_probability);
        said["top"] = json!(top);
    }
    said
}

fn told(finished: &Finished) -> Value {
    let Finished { sequence, timings } = finished;
    json!({
        "finish": sequence.finish().map_or("interrupted", FinishReason::name),
        "completion_tokens": sequence.ids().len(),
        "answer": sequence.text().trim(),
        "seconds": {
            "vision": timings.vision.as_secs_f64(),
            "prefill": timings.prefill.as_secs_f64(),
            "decode": timings.decode.as_secs_f64(),
        },
        "prefill_positions": timings.prefill_positions,
    })
}
