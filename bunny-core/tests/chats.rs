//! Conversations that are broken off, exchanged, or empty.
#![cfg(feature = "flex")]
#![recursion_limit = "256"]

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use bunny_core::{
    Error,
    checkpoint::{ModelSource, Precision},
    generate::{
        Answer, Chat, FinishReason, GenerationOptions, Picture, Pipeline, Prompt, batch, score,
    },
    input::{
        conversation::{Conversation, Message, Template},
        image::{DecodeOptions, decode_file},
        tokenizer::Token,
    },
};
use burn_flex::Flex;
use image::RgbImage;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/models")
        .join(name)
}

fn picture(name: &str) -> RgbImage {
    decode_file(fixture(name), DecodeOptions::default()).unwrap()
}

fn pipeline() -> Pipeline<Flex> {
    let source = ModelSource::merged(fixture("phi-siglip"));
    Pipeline::load(&source, Precision::F32, Default::default()).unwrap()
}

fn options() -> GenerationOptions {
    GenerationOptions {
        max_new_tokens: 12,
        ..Default::default()
    }
}

fn ask(
    chat: &mut Chat<Flex>,
    question: &str,
    pictures: &[RgbImage],
) -> Result<(Vec<u32>, String), Error> {
    let answer = chat.ask(
        question,
        pictures,
        &options(),
        |_| ControlFlow::Continue(()),
    );
    answer.map(|answer| (answer.ids, answer.prompt))
}

#[test]
fn a_question_that_is_broken_off_was_never_asked() {
    let pipeline = pipeline();
    let mut chat = pipeline.chat();
    ask(&mut chat, "What is this?", &[picture("wide.png")]).unwrap();
    let before = chat.conversation().clone();
    // As if the future were dropped while it waits: all that it holds is dropped halfway.
    let broken = catch_unwind(AssertUnwindSafe(|| {
        let tall = [picture("tall.png")];
        chat.ask("And this?", &tall, &options(), |_| panic!("gone"))
    }));
    assert!(broken.is_err());
    assert_eq!(*chat.conversation(), before);
    let again = ask(&mut chat, "What else?", &[]).unwrap();

    let mut calm = pipeline.chat();
    ask(&mut calm, "What is this?", &[picture("wide.png")]).unwrap();
    assert_eq!(again, ask(&mut calm, "What else?", &[]).unwrap());
}

#[test]
fn a_listener_that_breaks_off_hears_no_more() {
    let pipeline = pipeline();
    let mut pieces: Vec<String> = Vec::new();
    let listen = |text: &str| {
        pieces.push(text.to_string());
        ControlFlow::Continue(())
    };
    let ask = |options: &GenerationOptions, listen: &mut dyn FnMut(&str) -> ControlFlow<()>| {
        let pictures = [picture("wide.png")];
        let answer = pipeline
            .chat()
            .ask("What is this?", &pictures, options, listen);
        answer.unwrap()
    };
    let mut listen = listen;
    let whole: Answer = ask(&options(), &mut listen);
    assert_eq!(whole.finish, FinishReason::Length);
    // A stop text that begins with the last character of a piece, and never goes on.
    let long = |piece: &String| piece.trim().chars().count() > 1;
    let at = pieces.iter().position(long).unwrap();
    let last = pieces[at].chars().next_back().unwrap();
    let upto = pieces[..=at].concat();
    let heard_of_it = &upto[..upto.len() - last.len_utf8()];
    let stopping = GenerationOptions {
        stop: vec![format!("{last}\0")],
        ..options()
    };
    let (mut heard, mut has_broken_off) = (String::new(), false);
    let answer = ask(&stopping, &mut |text| {
        assert!(!has_broken_off, "heard `{text}` after that");
        heard.push_str(text);
        has_broken_off = heard.len() >= heard_of_it.len();
        match has_broken_off {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    assert_eq!(answer.finish, FinishReason::Interrupted);
    assert_eq!(heard, heard_of_it);
    assert_eq!(answer.text, upto.trim(), "what was held back is not lost");
}

#[test]
fn another_conversation_begins_without_pictures() {
    let pipeline = pipeline();
    let other = || Conversation::new(Template::Bunny).with_system("You see pictures.");
    let mut chat = pipeline.chat();
    ask(&mut chat, "What is this?", &[picture("wide.png")]).unwrap();
    let mut chat = chat.with_conversation(other());
    let found = ask(&mut chat, "And this?", &[picture("tall.png")]).unwrap();
    assert!(
        found
            .1
            .starts_with("You see pictures. USER: <image>\nAnd this?")
    );

    let mut fresh = pipeline.chat().with_conversation(other());
    assert_eq!(
        found,
        ask(&mut fresh, "And this?", &[picture("tall.png")]).unwrap()
    );
}

#[test]
fn what_the_system_says_first_stands_in_the_place_of_the_templates_own_text() {
    let turns = [("human", "Hi"), ("gpt", "Hello")];
    let spoken = |first: &[(&'static str, &'static str)], template| {
        let sentences = first.iter().copied().chain(turns);
        Conversation::from_record(template, sentences, false)
    };
    let other = spoken(&[("system", "Be brief.")], Template::Bunny).unwrap();
    assert!(
        other
            .render(false)
            .starts_with("Be brief. USER: Hi ASSISTANT: Hello")
    );
    // Behind it an answer to nothing is left out, as it is at the very beginning.
    let answered = [("system", "Be brief."), ("gpt", "Yes?")];
    assert_eq!(spoken(&answered, Template::Bunny).unwrap(), other);
    let late = [("human", "Hm"), ("system", "Be brief.")];
    assert!(spoken(&late, Template::Bunny).is_err());
}

#[test]
fn pictures_that_a_conversation_speaks_of_and_nobody_gave_are_missed() {
    let pipeline = pipeline();
    let mut conversation = Conversation::new(Template::Bunny);
    conversation
        .push(Message::user("What is this?").with_picture())
        .unwrap();
    conversation.push(Message::assistant("A bus.")).unwrap();
    let mut chat = pipeline.chat().with_conversation(conversation);
    for (pictures, slots) in [(vec![], 1), (vec![picture("tall.png")], 2)] {
        let error = ask(&mut chat, "Really?", &pictures).unwrap_err();
        assert!(
            matches!(error, Error::Pictures { slots: found, given } if found == slots && given + 1 == slots),
            "{error}"
        );
    }
}

#[test]
fn a_prompt_without_anything_is_refused() {
    let mut pipeline = pipeline();
    // This template keeps the pictures of a question alone.
    pipeline.template = Template::Plain;
    let mut chat = pipeline.chat();
    let error = ask(&mut chat, "Hello?", &[]).unwrap_err();
    assert!(matches!(error, Error::EmptyPrompt), "{error}");
    ask(&mut chat, "", &[picture("wide.png")]).unwrap();

    let prompt = |tokens| Prompt::<Flex> {
        tokens,
        pictures: Vec::new(),
    };
    for prompts in [
        vec![prompt(vec![])],
        vec![prompt(vec![Token::Text(1)]), prompt(vec![])],
    ] {
        let error = batch::generate(&pipeline, prompts, &options()).unwrap_err();
        assert!(matches!(error, Error::EmptyPrompt), "{error}");
    }
    let error = pipeline.model.embed(&[], Vec::new()).unwrap_err();
    assert!(matches!(error, Error::EmptyPrompt), "{error}");
}

/// Questions of unequal lengths, with pictures and without.
fn prompts(pipeline: &Pipeline<Flex>) -> Vec<Prompt<Flex>> {
    let asked = [
        ("What is this?", Some("wide.png")),
        ("And what is in the second picture of the two?", None),
        ("What?", Some("tall.png")),
    ];
    let prompt = |(question, shown): (&str, Option<&str>)| {
        let shown = shown.map(picture);
        let message = shown
            .iter()
            .fold(Message::user(question), |message, _| message.with_picture());
        let mut conversation = Conversation::new(pipeline.template);
        conversation.push(message).unwrap();
        let encoded = pipeline.tokenizer.encode(&conversation.segments(true));
        let pixels = shown.map(|picture| pipeline.image_processor.process(&picture));
        Prompt {
            tokens: encoded.unwrap().tokens,
            pictures: pixels.map(Picture::new).into_iter().collect(),
        }
    };
    asked.map(prompt).to_vec()
}

#[test]
fn stop_texts_penalties_and_seeds_work_in_batches_as_alone() {
    let pipeline = pipeline();
    let plain = batch::generate(&pipeline, prompts(&pipeline), &options()).unwrap();
    // A piece of what the first one says, and nobody else needs to say.
    let said = plain[0].sequence.text();
    let middle = said.char_indices().nth(said.chars().count() / 2).unwrap().0;
    let stop: String = said[middle..].chars().take(2).collect();
    let stopping = GenerationOptions {
        stop: vec![stop.clone()],
        ..options()
    };
    let drawn = GenerationOptions {
        temperature: 0.8,
        top_p: 0.9,
        seed: 3,
        repetition_penalty: 1.2,
        frequency_penalty: 0.3,
        ..options()
    };
    for options in [stopping, drawn] {
        let together = batch::generate(&pipeline, prompts(&pipeline), &options).unwrap();
        for (prompt, together) in prompts(&pipeline).into_iter().zip(&together) {
            let alone = batch::generate(&pipeline, vec![prompt], &options).unwrap();
            let (alone, together) = (&alone[0].sequence, &together.sequence);
            assert_eq!(alone.ids(), together.ids());
            assert_eq!(alone.text(), together.text());
            assert_eq!(alone.finish(), together.finish());
        }
        let first = &together[0].sequence;
        match options.stop.is_empty() {
            false => {
                assert_eq!(first.finish(), Some(FinishReason::Stop));
                let before = said.find(&stop).unwrap();
                assert_eq!(first.text(), &said[..before], "up to `{stop}`");
            }
            true => assert_ne!(first.ids(), plain[0].sequence.ids(), "it was drawn"),
        }
    }
}

#[test]
fn log_probabilities_of_an_answer_are_those_of_its_score() {
    let pipeline = pipeline();
    let options = GenerationOptions {
        log_probabilities: Some(3),
        ..options()
    };
    for prompt in prompts(&pipeline) {
        let answer = batch::generate(&pipeline, vec![prompt.clone()], &options).unwrap();
        let answer = &answer[0].sequence;
        let mut whole = prompt.clone();
        whole
            .tokens
            .extend(answer.ids().iter().map(|id| Token::Text(*id)));
        let places: Vec<usize> = (prompt.tokens.len()..whole.tokens.len()).collect();
        let scores = score(&pipeline.model, whole, &places, &pipeline.device).unwrap();
        assert_eq!(scores.len(), answer.ids().len());
        assert_eq!(answer.log_probabilities().len(), answer.ids().len());
        for (found, score) in answer.log_probabilities().iter().zip(scores) {
            assert_eq!(found.id, score.id);
            let off = (found.log_probability - score.log_probability).abs();
            assert!(off < 1e-4, "{found:?} {score:?}");
            // Greedy: the first of the likeliest is the one that was taken.
            assert_eq!(found.top.len(), 3);
            assert_eq!(found.top[0], (found.id, found.log_probability));
            assert!(found.top.is_sorted_by(|a, b| a.1 >= b.1));
        }
    }
}

#[test]
fn an_answer_may_be_asked_to_be_longer_than_there_are_positions() {
    let pipeline = pipeline();
    let context = pipeline.model.config().decoder.max_position_embeddings;
    let options = GenerationOptions {
        max_new_tokens: 100_000,
        // Never the end of text.
        logit_bias: vec![(pipeline.ends_of_text()[0], f32::MIN)],
        ..Default::default()
    };
    let mut chat = pipeline.chat();
    let go_on = |_: &str| ControlFlow::Continue(());
    let answer = chat.ask("What is this?", &[picture("wide.png")], &options, go_on);
    let answer = answer.unwrap();
    let positions = pipeline.model.positions(&answer.prompt_tokens);
    assert_eq!(answer.finish, FinishReason::Length);
    assert_eq!(answer.ids.len(), context - positions);
    // Now the conversation itself has no room.
    let before = chat.conversation().clone();
    let error = chat
        .ask("And what else?", &[], &options, go_on)
        .unwrap_err();
    assert!(
        matches!(error, Error::TooLong { prompt, context: found, .. } if prompt >= found && found == context),
        "{error}"
    );
    assert_eq!(*chat.conversation(), before);
}
