//! The Bunny models on burn: a picture and words in, words out.
//!
//! A Bunny ([paper](https://arxiv.org/abs/2402.11530)) is a vision tower, a projector and a small
//! language model. The tower makes a sequence of features out of a picture, the projector turns
//! them into embeddings of the language model, and these stand in the text where `<image>` stood.
//!
//! # Talk about a picture
//!
//! A [`Pipeline`](generate::Pipeline) is a checkpoint in the published layout, loaded with its
//! tokenizer and its image processor; a [`Chat`](generate::Chat) is a conversation with it.
//!
//! ```
//! use std::ops::ControlFlow;
//! use bunny_core::{
//!     checkpoint::{ModelSource, Precision},
//!     generate::{GenerationOptions, Pipeline},
//!     input::image::{DecodeOptions, decode_file},
//! };
//! use burn_flex::Flex;
//!
//! # let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models");
//! # let (model_folder, file) = (format!("{models}/phi-siglip"), format!("{models}/wide.png"));
//! let source = ModelSource::merged(model_folder);
//! let pipeline = Pipeline::<Flex>::load(&source, Precision::F32, Default::default())?;
//! let picture = decode_file(file, DecodeOptions::upright())?;
//!
//! let mut chat = pipeline.chat();
//! let options = GenerationOptions { max_new_tokens: 8, ..Default::default() };
//! let answer = chat.ask("What is this?", &[picture], &options, |text| {
//!     print!("{text}"); // as it comes, whole characters at a time
//!     ControlFlow::Continue(())
//! })?;
//! assert!(answer.ids.len() <= 8);
//!
//! // What was read stays in the cache: the second turn reads only what is new.
//! let answer = chat.ask("And what else?", &[], &options, |_| ControlFlow::Continue(()))?;
//! assert!(answer.timings.prefill_positions < answer.prompt_tokens.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A part of another program
//!
//! [`Bunny`] is a burn module: it can stand inside another one, on any backend, and its parts can
//! be called one by one. Its sizes come from a [`BunnyConfig`]; [`presets`](config::presets) has the published ones.
//!
//! ```
//! use bunny_core::{Bunny, checkpoint::Precision, input::image::ImageProcessor};
//! use bunny_core::config::{VisionConfig, presets::Preset};
//! use burn_flex::Flex;
//!
//! let mut config = Preset::named("bunny-phi-2-siglip").unwrap().config();
//! assert_eq!(config.parameters().total(), 3_182_254_624);
//! // A small one, of random weights:
//! config.decoder.num_hidden_layers = 1;
//! config.decoder.vocab_size = 100;
//! if let VisionConfig::Siglip(tower) = &mut config.vision {
//!     tower.num_hidden_layers = 2; // the last one is not used
//! }
//! let device = Default::default();
//! let model = Bunny::<Flex>::random(&config, 0, Precision::F32, &device);
//!
//! let processor = ImageProcessor::siglip(config.vision.image_size());
//! let pixels = processor.process(&image::RgbImage::new(640, 480));
//! let embeds = model.encode_pictures(&[&pixels], &device);
//! assert_eq!(embeds.dims(), [1, 729, 2560]); // [pictures, tokens, hidden]
//! let hidden = model.forward(embeds);
//! assert_eq!(model.last_logits(hidden).dims(), [1, 100]); // [batch, vocab]
//! ```
//!
//! # Where to look
//!
//! | | |
//! |---|---|
//! | [`generate`] | answers: conversations, batches, scores, and the engine under them |
//! | [`checkpoint`] | reading and writing models: safetensors, torch's pickles, LoRA, the hub |
//! | [`model`] | the model and its parts: [`tower`](model::tower), projector, [`decoder`](model::decoder) |
//! | [`input`] | pictures and words on their way in: [`image`](input::image), [`tokenizer`](input::tokenizer), [`conversation`](input::conversation) |
//! | [`nn`] | the layers |
//! | [`ops`] | what the layers compute, and the kernels behind it |
//! | [`config`] | what `config.json` says; the published sizes ([`presets`](config::presets)) |
//!
//! # Backends
//!
//! Everything is generic over burn's `Backend`. On burn-flex, the default, products, attention,
//! norms and activations run on kernels of this crate, weights stay in the type of their file, and
//! where that type is used as it is they are the mapped file itself. Numbers agree with the Python
//! reference to 1e-4 in f32, layer by layer, and greedy answers are the same tokens.
//!
//! burn's types are nested deeply. A crate that names a model with its backend, with `Autodiff` above
//! all, may find rustc's usual limit too low for them, and says `#![recursion_limit = "256"]` then, as
//! this one does.
#![recursion_limit = "256"]

pub mod checkpoint;
pub mod config;
mod error;
pub mod generate;
pub mod input;
pub mod model;
pub mod nn;
pub mod ops;

pub use config::{BunnyConfig, ConfigError, Fields};
pub use error::Error;
pub use model::Bunny;

/// Its example runs as a test.
#[cfg(all(doctest, feature = "flex"))]
#[doc = include_str!("../README.md")]
struct Readme;
