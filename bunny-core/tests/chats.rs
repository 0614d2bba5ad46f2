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
    generate::{Answer, Chat, FinishReason, GenerationOptions, Pipeline, batch},
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
    chat: &mut Chat<'_, Flex>,
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

    let prompt = |tokens| batch::Prompt::<Flex> {
        tokens,
        pictures: Vec::new(),
    };
    let (model, device) = (&pipeline.model, &pipeline.device);
    for mut prompts in [
        vec![prompt(vec![])],
        vec![prompt(vec![Token::Text(1)]), prompt(vec![])],
    ] {
        let error = batch::generate(model, &mut prompts, &options(), None, device).unwrap_err();
        assert!(matches!(error, Error::EmptyPrompt), "{error}");
    }
    let error = model.embed(&[], Vec::new()).unwrap_err();
    assert!(matches!(error, Error::EmptyPrompt), "{error}");
}
