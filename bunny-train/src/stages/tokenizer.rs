//! A tokenizer made from texts: byte-level BPE in the manner of Phi's, but digits stand alone.

use std::{collections::HashSet, path::Path};

use bunny_base::write_atomic;
use serde_json::json;
use tokenizers::{
    AddedToken, Tokenizer,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainer},
    },
    pre_tokenizers::{byte_level::ByteLevel, digits::Digits, sequence::Sequence},
};

use crate::error::TrainError;

/// What ends a text; its id is 0.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The files of a tokenizer's folder.
pub const TOKENIZER_FILES: [&str; 3] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// Learns the merges of a vocabulary of at most `vocab_size` tokens from `texts`, and writes the
/// tokenizer to `folder`. The same texts give the same files.
///
/// Every byte is a token, so that any text can be written. Digits are never merged: a number is
/// read and written digit by digit, which a small model can learn to do right.
///
/// # Errors
/// When the tokenizer cannot be trained, or a file not be written.
pub fn train(
    texts: impl Iterator<Item = String> + Send,
    vocab_size: usize,
    folder: &Path,
) -> Result<(), TrainError> {
    let failed = |source| TrainError::Tokenizer {
        folder: folder.to_path_buf(),
        source,
    };
    let mut tokenizer = Tokenizer::new(BPE::default());
    let words = ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        Digits::new(true).into(),
        words.into(),
    ])));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let alphabet: HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .show_progress(false)
        .initial_alphabet(alphabet)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .build()
        .into();
    tokenizer.train(&mut trainer, texts).map_err(failed)?;

    let text = tokenizer.to_string(true).map_err(failed)?;
    write_atomic(folder.join(TOKENIZER_FILES[0]), |file| {
        writeln!(file, "{text}")
    })?;
    let special = json!({
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
    });
    let mut config = special.clone();
    // Nothing of a class of its own: what tokenizer.json says is all there is.
    config["tokenizer_class"] = json!("PreTrainedTokenizerFast");
    config["clean_up_tokenization_spaces"] = json!(false);
    for (name, json) in TOKENIZER_FILES[1..].iter().zip([config, special]) {
        write_atomic(folder.join(name), |file| writeln!(file, "{json:#}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bunny_core::input::{conversation::Segment, tokenizer::Tokenizer};

    use super::*;

    fn texts() -> impl Iterator<Item = String> + Send {
        let shapes = ["circle", "square", "triangle"];
        (0..300).map(move |at| {
            let shape = shapes[at % 3];
            format!("There are {} {shape}s and {} more.", at % 7, 10 + at)
        })
    }

    fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        let encoded = tokenizer.encode(&[Segment::Prompt(text)]).unwrap();
        encoded.input_ids().iter().map(|id| *id as u32).collect()
    }

    #[test]
    fn the_same_texts_give_the_same_files() {
        let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let files = folders.map(|folder| {
            train(texts(), 320, folder.path()).unwrap();
            TOKENIZER_FILES.map(|name| std::fs::read(folder.path().join(name)).unwrap())
        });
        assert!(files[0] == files[1] && files[1] == files[2]);
    }

    #[test]
    fn a_vocabulary_is_as_large_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        train(texts(), 270, folder.path()).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(tokenizer.vocab_size(), 270);
    }

    #[test]
    fn digits_stand_alone_and_any_text_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        train(texts(), 320, folder.path()).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        // So few words need no more merges than this.
        assert!((257..=320).contains(&tokenizer.vocab_size()));
        let end = tokenizer.token_to_id(END_OF_TEXT);
        assert_eq!(tokenizer.special_tokens().eos, end);
        assert!(!tokenizer.adds_bos().unwrap());
        // A frequent word is one token, a number as many as it has digits, and its space one more.
        assert_eq!(ids(&tokenizer, " circles").len(), 1);
        assert_eq!(ids(&tokenizer, " 1234").len(), 5);
        for text in ["Any text: 108, ünïcödé, 三 and\nlines.", "  two  spaces "] {
            let ids = ids(&tokenizer, text);
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }

    #[test]
    fn packing_texts_takes_the_file_and_every_token_twice() {
        let folder = tempfile::tempdir().unwrap();
        train(texts(), 320, folder.path()).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let file = folder.path().join("texts.jsonl");
        let lines = texts().map(|text| format!("{}\n", json!({ "text": text })));
        let lines: String = lines.collect();
        std::fs::write(&file, &lines).unwrap();
        let opened = crate::data::Texts::open(&file).unwrap();
        // Fewer than a thousand texts are all counted: of each its tokens and an end, of four bytes; a vector
        // of three words with the allocator's two, and a range of two.
        let tokens: usize = texts().map(|text| ids(&tokenizer, &text).len() + 1).sum();
        let expected = lines.len() + 2 * 4 * tokens + 300 * (3 + 2 + 2) * 8;
        let bytes = opened.packing_bytes(&tokenizer).unwrap();
        assert!(bytes.abs_diff(expected as u64) <= 1, "{bytes} {expected}");
    }
}
