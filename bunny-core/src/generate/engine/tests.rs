//! Sequences in company against each of them alone, on every backend.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use bunny_base::random::mix_all;
use burn::{
    module::Param,
    tensor::{Tensor, backend::Backend},
};
use burn_flex::Flex;

use super::{Engine, EngineOptions, Finished, PictureUse, SequenceId, Slot, Update};
use crate::{
    Bunny, BunnyConfig, Error,
    config::{ProjectorConfig, SiglipConfig, VisionConfig, presets::Preset},
    generate::{FinishReason, GenerationOptions, Picture, Prompt, Reuse, Sequence},
    input::{image::Pixels, tokenizer::Token},
    nn::{Bits, Packing, Precision, WeightFormat},
};

thread_local! {
    /// The scores that sequences chose by, in order.
    static SCORES: RefCell<Vec<(SequenceId, Vec<f32>)>> = const { RefCell::new(Vec::new()) };
}

/// Notes the scores that a slot's sequence chooses by.
pub(super) fn note<B: Backend>(slot: &Slot<B>, scores: &[f32]) {
    let id = slot.running.as_ref().map(|running| running.id);
    let id = id.expect("somebody chooses");
    SCORES.with_borrow_mut(|all| all.push((id, scores.to_vec())));
}

const VOCABULARY: usize = 211;
const POSITIONS: usize = 500;

/// A model whose widths are no multiples of registers, tiles or blocks.
fn config() -> BunnyConfig {
    let mut config = Preset::named("bunny-phi-2-siglip").unwrap().config();
    config.decoder.vocab_size = VOCABULARY;
    config.decoder.hidden_size = 160;
    config.decoder.intermediate_size = 300;
    config.decoder.num_hidden_layers = 2;
    config.decoder.num_attention_heads = 4;
    config.decoder.num_key_value_heads = 2;
    config.decoder.head_dim = 40;
    config.decoder.rotary_dim = 16;
    config.decoder.max_position_embeddings = POSITIONS;
    let mut tower = SiglipConfig::so400m_patch14_384();
    tower.hidden_size = 24;
    tower.intermediate_size = 40;
    tower.num_hidden_layers = 2;
    tower.num_attention_heads = 2;
    tower.image_size = 42;
    config.vision = VisionConfig::Siglip(tower);
    config.projector = ProjectorConfig::mlp2x_gelu(24, 160);
    config
}

fn model<B: Backend>() -> Arc<Bunny<B>> {
    model_in(Precision::F32)
}

fn model_in<B: Backend>(precision: Precision) -> Arc<Bunny<B>> {
    let device = B::Device::default();
    Arc::new(Bunny::random(&config(), 5, precision, &device))
}

/// A number below `below` that looks random.
fn draw(words: &[u64], below: usize) -> usize {
    (mix_all(words) % below as u64) as usize
}

/// One of three pictures.
fn picture<B: Backend>(which: usize) -> Picture<B> {
    let side = 42;
    let value = |at| draw(&[77, which as u64, at], 255) as f32 / 127.5 - 1.0;
    Picture::new(Pixels {
        data: (0..3 * side * side).map(value).collect(),
        height: side as usize,
        width: side as usize,
    })
}

/// Something that is asked.
struct Request {
    tokens: Vec<Token>,
    picture: Option<usize>,
    options: GenerationOptions,
    /// In which step it is asked, and after how many tokens it is broken off.
    step: usize,
    most: usize,
}

impl Request {
    fn prompt<B: Backend>(&self) -> Prompt<B> {
        Prompt {
            tokens: self.tokens.clone(),
            pictures: self.picture.map(picture).into_iter().collect(),
        }
    }

    fn sequence(&self) -> Sequence {
        Sequence::of_tokens(&self.tokens, &self.options)
    }
}

/// Forty requests of all lengths: some begin alike, some are drawn, some are broken off.
fn requests(greedy: bool) -> Vec<Request> {
    let words = |seed, count| {
        let word = move |at| Token::Text(draw(&[seed, at], VOCABULARY) as u32);
        (0..count as u64).map(word)
    };
    let request = |number: u64| {
        let draw = |what: u64, below| draw(&[number, 1000 + what], below);
        let picture = (draw(0, 3) > 0).then(|| draw(1, 3));
        let system = if draw(2, 4) > 0 { 25 } else { 0 };
        let mut tokens: Vec<Token> = words(999, system).collect();
        tokens.extend(picture.map(|_| Token::Picture(0)));
        let count = match draw(3, 4) {
            0 => draw(4, 4),
            1 => draw(4, 30),
            _ => draw(4, 330),
        };
        tokens.extend(words(number, count + usize::from(tokens.is_empty())));
        let is_drawn = !greedy && draw(5, 3) == 0;
        let max_new_tokens = 1 + draw(6, 24);
        Request {
            tokens,
            picture,
            options: GenerationOptions {
                max_new_tokens,
                temperature: if is_drawn { 1.5 } else { 0.0 },
                repetition_penalty: if draw(7, 3) == 0 && !greedy { 1.3 } else { 1.0 },
                presence_penalty: if draw(8, 4) == 0 && !greedy { 0.4 } else { 0.0 },
                top_k: draw(9, 2) * 50,
                seed: number,
                ..Default::default()
            },
            step: draw(10, 60),
            most: if draw(11, 8) == 0 {
                1 + draw(12, 6)
            } else {
                max_new_tokens
            },
        }
    };
    (0..40).map(request).collect()
}

/// What became of a request.
struct Outcome {
    ids: Vec<u32>,
    finish: Option<FinishReason>,
    known: usize,
    /// The scores of each token.
    scores: Vec<Vec<f32>>,
}

/// Asks all that is asked, each in its step, until everybody has an answer.
fn answers<B: Backend>(engine: &mut Engine<B>, requests: &[&Request]) -> Vec<Outcome> {
    SCORES.with_borrow_mut(Vec::clear);
    let mut asked: HashMap<SequenceId, usize> = HashMap::new();
    let mut finished: Vec<Option<Finished>> = requests.iter().map(|_| None).collect();
    let mut step = 0;
    let most_blocks = engine.cache_use().allowed / engine.cache().block_bytes() as u64;
    while finished.iter().any(Option::is_none) {
        for (number, request) in requests.iter().enumerate() {
            // Who is alone need not wait.
            let asked_in = if requests.len() == 1 { 0 } else { request.step };
            if asked_in == step {
                let id = engine.admit(request.prompt(), request.sequence()).unwrap();
                asked.insert(id, number);
            }
        }
        let mut spoken: HashMap<SequenceId, usize> = HashMap::new();
        for (id, update) in engine.step() {
            match update {
                Update::Token(_) => *spoken.entry(id).or_default() += 1,
                Update::Finished(done) => finished[asked[&id]] = Some(*done),
                other => panic!("{other:?}"),
            }
        }
        assert!(spoken.values().all(|count| *count == 1), "a token a step");
        // Blocks that were ever made are those that were ever held at once.
        assert!(engine.cache().blocks_made() as u64 <= most_blocks);
        let used = engine.cache_use();
        assert!(used.running <= used.held && used.held <= used.allowed);
        assert_eq!(used.held, engine.cache().bytes_in_use() as u64);
        for id in spoken.into_keys() {
            let number = asked[&id];
            let said = SCORES.with_borrow(|all| all.iter().filter(|(one, _)| *one == id).count());
            if finished[number].is_none() && said == requests[number].most {
                finished[number] = engine.cancel(id).unwrap();
            }
        }
        step += 1;
        assert!(step < 5000, "they never end");
    }
    let mut scores: Vec<Vec<Vec<f32>>> = requests.iter().map(|_| Vec::new()).collect();
    for (id, row) in SCORES.take() {
        scores[asked[&id]].push(row);
    }
    assert!(engine.is_idle());
    let outcomes = finished.into_iter().flatten().zip(scores);
    outcomes
        .map(|(finished, scores)| Outcome {
            ids: finished.sequence.ids().to_vec(),
            finish: finished.sequence.finish(),
            known: finished.timings.known_positions,
            scores,
        })
        .collect()
}

fn engine<B: Backend>(model: &Arc<Bunny<B>>, slots: usize, chunk: usize) -> Engine<B> {
    let options = EngineOptions {
        slots,
        chunk,
        pictures: 2,
        ..EngineOptions::default()
    };
    Engine::new(model.clone(), options, Default::default())
}

/// The requests all together on one backend, and each alone on another one or the same.
fn together_and_alone<B: Backend, Alone: Backend>(
    precision: Precision,
    requests: &[Request],
    slots: usize,
    chunk: usize,
) -> Vec<[Outcome; 2]> {
    let mut company = engine(&model_in::<B>(precision), slots, chunk);
    let all: Vec<&Request> = requests.iter().collect();
    let together = answers(&mut company, &all);
    let known: usize = together.iter().map(|outcome| outcome.known).sum();
    assert!(known > 100, "what is known is taken: {known}");
    company.clear();
    assert_eq!(company.cache().blocks_in_use(), 0, "blocks come back");
    let model = model_in::<Alone>(precision);
    let alone = all.iter().map(|request| {
        let outcome = answers(&mut engine(&model, 1, usize::MAX), &[request]);
        outcome.into_iter().next().unwrap()
    });
    together
        .into_iter()
        .zip(alone)
        .map(|(together, alone)| {
            assert_eq!(alone.known, 0);
            [together, alone]
        })
        .collect()
}

/// Sequences that come and go, each as long as it is, choose by scores that are the same bits as alone.
fn in_company_scores_are_the_same_bits(precision: Precision, slots: usize, chunk: usize) {
    let both = together_and_alone::<Flex, Flex>(precision, &requests(false), slots, chunk);
    for (number, [together, alone]) in both.into_iter().enumerate() {
        let place = format!("request {number}, {slots} slots, chunks of {chunk}");
        assert_eq!(together.ids, alone.ids, "{place}");
        assert_eq!(together.finish, alone.finish, "{place}");
        let bits = |outcome: &Outcome| -> Vec<Vec<u32>> {
            let rows = outcome.scores.iter();
            rows.map(|row| row.iter().map(|score| score.to_bits()).collect())
                .collect()
        };
        assert!(bits(&together) == bits(&alone), "{place}");
    }
}

#[test]
fn in_company_scores_are_the_bits_that_they_are_alone() {
    for (slots, chunk) in [(7, 37), (40, 4096), (3, 150)] {
        in_company_scores_are_the_same_bits(Precision::F32, slots, chunk);
    }
}

/// With memory for few of them, or for hardly one, they wait, and answer as they do with room for all.
#[test]
fn within_any_memory_scores_are_the_bits_that_they_are_alone() {
    let model = model::<Flex>();
    let requests = requests(false);
    let all: Vec<&Request> = requests.iter().collect();
    let bits = |outcomes: &[Outcome]| -> Vec<(Vec<u32>, Option<FinishReason>, Vec<u32>)> {
        let outcomes = outcomes.iter();
        let one = |outcome: &Outcome| {
            let scores = outcome.scores.iter().flatten();
            let scores = scores.map(|score| score.to_bits()).collect();
            (outcome.ids.clone(), outcome.finish, scores)
        };
        outcomes.map(one).collect()
    };
    let mut boundless = engine(&model, 7, 37);
    let unbounded = answers(&mut boundless, &all);
    let block = engine(&model, 1, 1).cache().block_bytes() as u64;
    // The longest of them takes four blocks.
    for blocks in [4, 5, 6, 8] {
        let options = EngineOptions {
            slots: 7,
            chunk: 37,
            pictures: 2,
            cache_bytes: Some(blocks * block + block - 1),
            ..EngineOptions::default()
        };
        let mut engine = Engine::new(model.clone(), options, Default::default());
        assert_eq!(engine.cache_use().allowed, blocks * block);
        let bounded = answers(&mut engine, &all);
        assert!(bits(&bounded) == bits(&unbounded), "{blocks} blocks");
        // Which is less than they take where they may.
        assert!(blocks < boundless.cache().blocks_made() as u64);
    }
}

#[test]
fn weights_of_16_bits_have_keys_and_values_of_16_bits() {
    let bytes = |format| {
        let model = model_in::<Flex>(Precision::weights_only(format));
        engine(&model, 1, 1).cache().bytes_per_position()
    };
    assert_eq!(bytes(WeightFormat::F32), 2 * bytes(WeightFormat::Bf16));
    assert_eq!(bytes(WeightFormat::Bf16), bytes(WeightFormat::F16));
    // Their sums are f32 as ever, and so in no other order.
    in_company_scores_are_the_same_bits(Precision::weights_only(WeightFormat::F16), 7, 37);
    // Products of bf16 may round what they multiply, and with few rows they do not.
    in_company_scores_are_near::<Flex>(Precision::weights_only(WeightFormat::Bf16), 0.02);
}

#[test]
fn weights_in_integers_answer_in_company_as_alone() {
    for bits in [Bits::Eight, Bits::Four] {
        let precision = Precision::F32.packed(Some(Packing::new(bits)));
        in_company_scores_are_the_same_bits(precision, 7, 37);
    }
}

#[test]
fn keys_and_values_in_eight_bits_answer_in_company_as_alone() {
    let narrow = Precision {
        cache_int8: true,
        ..Precision::F32
    };
    let bytes = |precision| {
        let model = model_in::<Flex>(precision);
        engine(&model, 1, 1).cache().bytes_per_position()
    };
    // 40 codes and a scale in the place of 40 numbers.
    assert_eq!(160 * bytes(narrow), 44 * bytes(Precision::F32));
    in_company_scores_are_the_same_bits(narrow, 7, 37);
    // Half a step is 1/254 of a row's greatest number: in keys and values, and in both layers. Within a
    // window they are read by other means.
    let first = |precision, window| {
        let mut config = config();
        config.decoder.sliding_window = window;
        let model = Arc::new(Bunny::<Flex>::random(
            &config,
            5,
            precision,
            &Default::default(),
        ));
        let requests = requests(true);
        let all: Vec<&Request> = requests.iter().collect();
        let outcomes = answers(&mut engine(&model, 7, 37), &all).into_iter();
        let scores = outcomes.filter_map(|outcome| outcome.scores.into_iter().next());
        scores.flatten().collect::<Vec<f32>>()
    };
    for window in [None, Some(48)] {
        let [found, expected] = [narrow, Precision::F32].map(|precision| first(precision, window));
        assert_eq!(found.len(), expected.len());
        assert_ne!(found, expected);
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let off = off.fold(0f32, f32::max);
        assert!(
            off < 4.0 / 254.0,
            "off by {off}, where scores are as large as 1 about"
        );
    }
}

/// The bits of the scores by which each token of each answer was chosen.
type ScoreBits = Vec<Vec<Vec<u32>>>;

/// All that is asked at once, tokens being drafted or not: what was said, by which scores, and in how many
/// steps.
fn said_with_drafts(
    precision: Precision,
    draft: usize,
    requests: &[Request],
) -> (Vec<Vec<u32>>, ScoreBits, usize) {
    SCORES.with_borrow_mut(Vec::clear);
    let options = EngineOptions {
        slots: 3,
        chunk: 64,
        draft,
        ..EngineOptions::default()
    };
    let mut engine = Engine::<Flex>::new(model_in(precision), options, Default::default());
    let ids: Vec<SequenceId> = requests
        .iter()
        .map(|request| engine.admit(request.prompt(), request.sequence()).unwrap())
        .collect();
    let mut said: Vec<Vec<u32>> = requests.iter().map(|_| Vec::new()).collect();
    let mut steps = 0;
    while !engine.is_idle() {
        steps += 1;
        for (id, update) in engine.step() {
            let of = ids.iter().position(|one| *one == id).unwrap();
            match update {
                Update::Token(event) => said[of].push(event.id),
                Update::Finished(done) => assert_eq!(done.sequence.ids(), said[of]),
                other => panic!("{other:?}"),
            }
        }
    }
    let mut scores: ScoreBits = requests.iter().map(|_| Vec::new()).collect();
    for (id, row) in SCORES.take() {
        let of = ids.iter().position(|one| *one == id).unwrap();
        scores[of].push(row.iter().map(|score| score.to_bits()).collect());
    }
    (said, scores, steps)
}

#[test]
fn drafts_change_no_bit_of_an_answer() {
    let packed = Precision::F32.packed(Some(Packing::new(Bits::Four)));
    let half = Precision::weights_only(WeightFormat::F16);
    for precision in [Precision::F32, half, packed] {
        let mut requests = requests(false);
        requests.truncate(16);
        for (number, request) in requests.iter_mut().enumerate() {
            // Few words to draw from: they come again.
            let bias = (20..VOCABULARY as u32).map(|id| (id, -50.0));
            request.options.logit_bias = bias.collect();
            request.options.max_new_tokens = 40 + number;
        }
        let plain = said_with_drafts(precision, 0, &requests);
        for draft in [1, 4, 11] {
            let drafted = said_with_drafts(precision, draft, &requests);
            assert_eq!(drafted.0, plain.0, "{draft}");
            assert!(drafted.1 == plain.1, "{draft}: other scores");
            assert!(
                drafted.2 < plain.2,
                "{draft}: {} and {}",
                drafted.2,
                plain.2
            );
        }
    }
}

/// Where sums hang on what stands beside them: scores, which are as large as 1 about, are near those on
/// flex alone, and where the best token is so by more than twice that, it is the same.
fn in_company_scores_are_near<B: Backend>(precision: Precision, near: f32) {
    let mut compared = 0;
    for [together, alone] in together_and_alone::<B, Flex>(precision, &requests(true), 7, 60) {
        for (at, (ours, theirs)) in together.scores.iter().zip(&alone.scores).enumerate() {
            let pairs = ours.iter().zip(theirs);
            let off = pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(off < near, "off by {off}");
            compared += 1;
            let mut sorted = theirs.clone();
            sorted.sort_unstable_by(|a, b| b.total_cmp(a));
            if sorted[0] - sorted[1] <= 2.0 * near {
                // From here on they may have answered differently.
                break;
            }
            assert_eq!(together.ids[at], alone.ids[at]);
        }
    }
    assert!(compared > 40, "{compared} rows were compared");
}

/// Scores that are no numbers are an error, and that of their own sequence alone.
fn what_is_no_number_is_an_error<B: Backend>() {
    let device = B::Device::default();
    for poison in [f32::NAN, f32::INFINITY] {
        let mut model = Arc::unwrap_or_clone(model::<B>());
        let table = &mut model.language_model.model.embed_tokens.weight.blocks[0];
        let row = Tensor::<B, 2>::full([1, 160], poison, &device);
        let spoiled = table.floats().slice_assign([7..8, 0..160], row);
        *table = Param::from_tensor(spoiled).into();
        let mut engine = engine(&Arc::new(model), 2, 512);
        let mut admit = |first| {
            let tokens: Vec<Token> = [first, 8, 9].map(Token::Text).to_vec();
            let options = GenerationOptions {
                max_new_tokens: 4,
                // What was spoiled is never said.
                logit_bias: vec![(7, -100.0)],
                ..Default::default()
            };
            let sequence = Sequence::of_tokens(&tokens, &options);
            let pictures = Vec::new();
            engine.admit(Prompt { tokens, pictures }, sequence).unwrap()
        };
        let (bad, good) = (admit(7), admit(6));
        let (mut failed, mut answered) = (0, 0);
        while !engine.is_idle() {
            for (id, update) in engine.step() {
                match update {
                    Update::Failed(Error::NotFinite { place: 3 }) if id == bad => failed += 1,
                    Update::Finished(done) if id == good => answered += done.sequence.ids().len(),
                    Update::Token(_) => assert_eq!(id, good),
                    other => panic!("{id:?}: {other:?}"),
                }
            }
        }
        assert_eq!((failed, answered), (1, 4));
    }
}

macro_rules! on_backend {
    ($backend:ident, $type:ty) => {
        mod $backend {
            #[test]
            fn in_company_scores_are_near_those_alone() {
                super::in_company_scores_are_near::<$type>(super::Precision::F32, 1e-5);
            }

            #[test]
            fn what_is_no_number_is_an_error() {
                super::what_is_no_number_is_an_error::<$type>();
            }
        }
    };
}

on_backend!(flex, burn_flex::Flex);
#[cfg(feature = "ndarray")]
on_backend!(ndarray, burn_ndarray::NdArray);
#[cfg(feature = "wgpu")]
on_backend!(wgpu, burn_wgpu::Wgpu);

mod scheduling {
    use super::*;

    type B = Flex;

    fn text(seed: u64, count: usize) -> Vec<Token> {
        let word = |at| Token::Text(draw(&[seed, at], VOCABULARY) as u32);
        (0..count as u64).map(word).collect()
    }

    fn prompt(tokens: Vec<Token>) -> Prompt<B> {
        Prompt {
            tokens,
            pictures: Vec::new(),
        }
    }

    fn admit(engine: &mut Engine<B>, prompt: Prompt<B>, most: usize) -> SequenceId {
        let options = GenerationOptions {
            max_new_tokens: most,
            ..Default::default()
        };
        let sequence = Sequence::of_tokens(&prompt.tokens, &options);
        engine.admit(prompt, sequence).unwrap()
    }

    fn run(engine: &mut Engine<B>) -> Vec<(SequenceId, Finished)> {
        let mut all = Vec::new();
        while !engine.is_idle() {
            for (id, update) in engine.step() {
                if let Update::Finished(finished) = update {
                    all.push((id, *finished));
                }
            }
        }
        all
    }

    #[test]
    fn a_long_prompt_does_not_hold_up_who_is_answering() {
        let mut engine = engine(&model::<B>(), 2, 50);
        let first = admit(&mut engine, prompt(text(1, 10)), 30);
        engine.step();
        let long = admit(&mut engine, prompt(text(2, 330)), 3);
        // 330 positions are seven chunks of 50; the other one gets a token with each.
        for _ in 0..6 {
            let tokens = engine.step();
            assert_eq!(tokens.len(), 1);
            assert_eq!(tokens[0].0, first);
        }
        let spoke: Vec<SequenceId> = engine.step().into_iter().map(|(id, _)| id).collect();
        assert!(spoke.contains(&first) && spoke.contains(&long));
    }

    #[test]
    fn what_is_left_of_the_positions_limits_an_answer() {
        let mut engine = engine(&model::<B>(), 2, 512);
        admit(&mut engine, prompt(text(1, POSITIONS - 5)), 100);
        let (_, answer) = run(&mut engine).pop().unwrap();
        assert_eq!(answer.sequence.ids().len(), 5);
        assert_eq!(answer.sequence.finish(), Some(FinishReason::Length));
        for count in [POSITIONS, POSITIONS + 7] {
            let tokens = text(1, count);
            let sequence = Sequence::of_tokens(&tokens, &GenerationOptions::default());
            let error = engine.admit(prompt(tokens), sequence).unwrap_err();
            let found = match &error {
                Error::TooLong {
                    prompt,
                    pictures: 0,
                    context,
                } => (*prompt, *context),
                other => panic!("{other}"),
            };
            assert_eq!(found, (count, POSITIONS));
        }
        assert!(engine.is_idle());
    }

    /// An engine that may hold so many blocks of 128 positions.
    fn within(blocks: u64, slots: usize) -> Engine<B> {
        let model = model::<B>();
        let block = engine(&model, 1, 1).cache().block_bytes() as u64;
        let options = EngineOptions {
            slots,
            cache_bytes: Some(blocks * block),
            ..EngineOptions::default()
        };
        Engine::new(model, options, Default::default())
    }

    #[test]
    fn what_does_not_fit_waits_and_nobody_overtakes_it() {
        let mut engine = within(3, 4);
        // Two blocks, two more that do not fit beside them, and one that would.
        let first = admit(&mut engine, prompt(text(1, 120)), 20);
        let second = admit(&mut engine, prompt(text(2, 150)), 20);
        let third = admit(&mut engine, prompt(text(3, 10)), 5);
        engine.step();
        assert_eq!((engine.running(), engine.waiting()), (1, 2));
        let ended: Vec<SequenceId> = run(&mut engine).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ended, [first, third, second]);
    }

    #[test]
    fn what_is_kept_goes_oldest_first_and_only_where_room_is_needed() {
        let mut engine = within(4, 4);
        let mut known = |seed, count, most| {
            admit(&mut engine, prompt(text(seed, count)), most);
            let (_, answer) = run(&mut engine).pop().unwrap();
            answer.timings.known_positions
        };
        for seed in [1, 2, 3] {
            assert_eq!(known(seed, 100, 10), 0);
        }
        // The fourth block is free; with two it takes that, and the first one's.
        assert_eq!(known(4, 100, 60), 0);
        assert_eq!(known(2, 100, 10), 99);
        assert_eq!(known(3, 100, 10), 99);
        assert_eq!(known(1, 100, 10), 0);
    }

    #[test]
    fn who_fits_alone_goes_on_in_the_place_of_whom_it_begins_as() {
        let mut engine = within(4, 2);
        admit(&mut engine, prompt(text(1, 450)), 10);
        run(&mut engine);
        // Beside the 450 there is no room, and less than half of them are its own.
        let mut tokens = text(1, 200);
        tokens.extend(text(2, 200));
        admit(&mut engine, prompt(tokens), 50);
        let (_, answer) = run(&mut engine).pop().unwrap();
        assert_eq!(answer.timings.known_positions, 200);
        assert_eq!(answer.sequence.ids().len(), 50);
    }

    #[test]
    fn what_never_fits_is_refused_and_memory_limits_an_answer() {
        let mut engine = within(2, 2);
        assert_eq!(engine.context(), 256);
        admit(&mut engine, prompt(text(1, 250)), 100);
        let (_, answer) = run(&mut engine).pop().unwrap();
        // Nothing is held of the last token.
        assert_eq!(answer.sequence.ids().len(), 256 - 250 + 1);
        assert_eq!(answer.sequence.finish(), Some(FinishReason::Length));
        let tokens = text(2, 257);
        let block = engine.cache().block_bytes() as u64;
        let sequence = Sequence::of_tokens(&tokens, &GenerationOptions::default());
        match engine.admit(prompt(tokens.clone()), sequence) {
            Err(Error::CacheTooSmall { needed, allowed }) => {
                assert_eq!((needed, allowed), (3 * block, 2 * block));
            }
            other => panic!("{other:?}"),
        }
        assert!(engine.admit_scoring(prompt(tokens), &[1], 0).is_err());
        assert!(engine.is_idle());
    }

    #[test]
    fn no_tokens_at_all_may_be_asked_for() {
        let mut engine = engine(&model::<B>(), 1, 512);
        admit(&mut engine, prompt(text(1, 20)), 0);
        let (_, answer) = run(&mut engine).pop().unwrap();
        assert!(answer.sequence.ids().is_empty());
        assert_eq!(answer.sequence.finish(), Some(FinishReason::Length));
    }

    #[test]
    fn a_beginning_that_two_share_is_held_once() {
        let mut engine = engine(&model::<B>(), 3, 512);
        let block = engine.cache().bytes_per_position();
        assert_eq!(
            block,
            2 * 2 * 2 * 40 * 4,
            "layers, both, heads, channels, bytes"
        );
        let asked = |seed| {
            let mut tokens = text(9, 20);
            tokens.push(Token::Picture(0));
            tokens.extend(text(10, 280));
            tokens.extend(text(seed, 10));
            Prompt {
                tokens,
                pictures: vec![picture(0)],
            }
        };
        admit(&mut engine, asked(1), 40);
        engine.step();
        let one = engine.cache().blocks_in_use();
        // 319 positions, in blocks of 128.
        assert_eq!(one, 3);
        admit(&mut engine, asked(2), 40);
        admit(&mut engine, asked(3), 40);
        engine.step();
        assert_eq!(engine.running(), 3);
        // Each has a block of its own for what it does not share, and for no more.
        assert_eq!(engine.cache().blocks_in_use(), one + 2);
        let answers = run(&mut engine);
        assert_eq!(answers.len(), 3);
        for (_, answer) in &answers[1..] {
            assert_eq!(answer.timings.known_positions, 309);
            assert_eq!(answer.timings.prefill_positions, 10);
            assert!(answer.timings.vision.is_zero(), "its picture is known");
        }
        assert_eq!(engine.prompt_positions_read(), 319 + 2 * 10);
    }

    #[test]
    fn who_begins_as_another_is_about_to_waits_for_it() {
        let mut engine = engine(&model::<B>(), 2, 512);
        let [first, second] = [1, 2].map(|seed| {
            let mut tokens = text(9, 200);
            tokens.extend(text(seed, 10));
            admit(&mut engine, prompt(tokens), 2)
        });
        let spoke = |engine: &mut Engine<B>| -> Vec<SequenceId> {
            let updates = engine.step();
            let tokens = updates.into_iter();
            tokens
                .filter(|(_, update)| matches!(update, Update::Token(_)))
                .map(|(id, _)| id)
                .collect()
        };
        assert_eq!(spoke(&mut engine), [first]);
        assert_eq!(spoke(&mut engine), [second, first]);
        let answers = run(&mut engine);
        assert_eq!(answers[0].1.timings.known_positions, 200);
    }

    #[test]
    fn a_picture_is_known_by_its_pixels() {
        let mut engine = engine(&model::<B>(), 1, 512);
        let shown = |which, seed| {
            let mut tokens = text(seed, 3);
            tokens.push(Token::Picture(0));
            Prompt {
                tokens,
                pictures: vec![picture(which)],
            }
        };
        let mut shown_known = [0, 0];
        let mut vision = |which, seed| {
            admit(&mut engine, shown(which, seed), 1);
            let (_, answer) = run(&mut engine).pop().unwrap();
            let made = !answer.timings.vision.is_zero();
            (shown_known[0], shown_known[1]) =
                (shown_known[0] + 1, shown_known[1] + u64::from(!made));
            let PictureUse { shown, known } = engine.picture_use();
            assert_eq!([shown, known], shown_known);
            made
        };
        // Two are kept.
        assert!(vision(0, 1));
        assert!(!vision(0, 2));
        assert!(vision(1, 3));
        assert!(!vision(0, 4));
        assert!(vision(2, 5));
        assert!(!vision(0, 6));
        assert!(vision(1, 7), "the one that was longest not shown is gone");
    }

    #[test]
    fn an_answer_is_gone_on_with_only_where_that_is_allowed() {
        let model = model::<B>();
        let known = |reuse| {
            let options = EngineOptions {
                slots: 1,
                reuse,
                ..EngineOptions::default()
            };
            let mut engine = Engine::new(model.clone(), options, Default::default());
            let mut tokens = text(1, 20);
            admit(&mut engine, prompt(tokens.clone()), 8);
            let (_, answer) = run(&mut engine).pop().unwrap();
            tokens.extend(answer.sequence.ids().iter().map(|id| Token::Text(*id)));
            tokens.extend(text(2, 5));
            admit(&mut engine, prompt(tokens), 1);
            run(&mut engine).pop().unwrap().1.timings.known_positions
        };
        assert_eq!(known(Reuse::Prompts), 20);
        // The last token was chosen, and nothing was read of it.
        assert_eq!(known(Reuse::Everything), 27);
    }

    #[test]
    fn scores_are_those_of_any_chunks() {
        let model = model::<B>();
        let tokens = text(3, 90);
        let places: Vec<usize> = (1..90).step_by(3).collect();
        let scores = |chunk| {
            let mut engine = engine(&model, 1, chunk);
            let asked = prompt(tokens.clone());
            engine.admit_scoring(asked, &places, 0).unwrap();
            let mut found = Vec::new();
            while !engine.is_idle() {
                for (_, update) in engine.step() {
                    match update {
                        Update::Scored(scores) => found = scores,
                        other => panic!("{other:?}"),
                    }
                }
            }
            found
        };
        let whole = scores(512);
        assert_eq!(whole.len(), places.len());
        assert!(whole.iter().map(|one| one.place).eq(places.iter().copied()));
        assert_eq!(whole, scores(7));
    }

    #[test]
    fn an_engine_can_go_to_another_thread() {
        fn moves<T: Send + 'static>() {}
        moves::<Engine<B>>();
        moves::<crate::generate::Chat<B>>();
    }
}
