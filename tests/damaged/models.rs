//! What lies beside weights: configurations and tokenizers, alone and on the way to a model that speaks.

use std::{fs, ops::ControlFlow, path::PathBuf};

use bunny_core::{
    checkpoint::{GgufExport, GgufProjector, GgufWeights, ModelSource, Precision},
    generate::{GenerationOptions, Pipeline},
    input::{
        conversation::Segment,
        image::ImageProcessor,
        tokenizer::{Token, Tokenizer},
    },
};
use burn_flex::Flex;

use crate::{
    damage::Seed,
    driver::{Allowed, copy_folder, files_below, folder, fuzz, root, write_anew},
};

const ALLOWED: Allowed = Allowed {
    fixed: 16 << 20,
    per_byte: 200,
};

fn models() -> PathBuf {
    root().join("tests/fixtures/models")
}

fn seeds(name: &str) -> Vec<Seed> {
    let files = files_below(&models()).into_iter();
    let wanted = files.filter(|file| file.ends_with(name));
    wanted.map(|file| fs::read(file).unwrap().into()).collect()
}

/// A whole model on which damage can be done.
fn model() -> tempfile::TempDir {
    let folder = folder();
    copy_folder(&models().join("phi-siglip"), folder.path());
    folder
}

#[test]
fn configurations() {
    let folder = model();
    let file = folder.path().join("config.json");
    let source = ModelSource::merged(folder.path());
    fuzz(
        "configurations",
        ALLOWED,
        &seeds("config.json"),
        |_, damaged| {
            write_anew(&file, damaged);
            let config = source.configuration().map_err(|error| error.to_string())?;
            // Counting must not overflow either.
            assert!(config.parameters().total() > 0);
            Ok(())
        },
    );
}

#[test]
fn configurations_of_towers() {
    let folder = model();
    let tower = folder.path().join("siglip-tower");
    let files = ["config.json", "preprocessor_config.json"].map(|name| tower.join(name));
    let whole = files.clone().map(|file| fs::read(file).unwrap());
    let seeds: Vec<Seed> = whole.iter().map(|bytes| bytes.clone().into()).collect();
    let source = ModelSource::merged(folder.path());
    fuzz(
        "configurations of towers",
        ALLOWED,
        &seeds,
        |random, damaged| {
            let at = random.below(2);
            write_anew(&files[at], damaged);
            let read = source.configuration().map_err(|error| error.to_string());
            let processor = ImageProcessor::from_preprocessor_config(&files[1]);
            write_anew(&files[at], &whole[at]);
            read?;
            match processor {
                Ok(processor) if processor.size <= 64 => {
                    processor.process(&image::RgbImage::new(9, 5));
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        },
    );
}

/// What transformers says of a LLaVA, in any of its files.
#[test]
fn llavas() {
    let folder = folder();
    copy_folder(
        &root().join("tests/fixtures/llava/llama-clip-4"),
        folder.path(),
    );
    let names = [
        "config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "generation_config.json",
    ];
    let files = names.map(|name| folder.path().join(name));
    let whole = files.clone().map(|file| fs::read(file).unwrap());
    let seeds: Vec<Seed> = whole.iter().map(|bytes| bytes.clone().into()).collect();
    let source = ModelSource::merged(folder.path());
    fuzz("LLaVAs", ALLOWED, &seeds, |random, damaged| {
        let at = random.below(names.len());
        write_anew(&files[at], damaged);
        let read = source.configuration().map_err(|error| error.to_string());
        let opened = source.open().map_err(|error| error.to_string());
        write_anew(&files[at], &whole[at]);
        assert!(read?.parameters().total() > 0);
        opened.map(drop)
    });
}

#[test]
fn models_of_sentencepiece() {
    let folder = folder();
    let pieces = root().join("bunny-core/tests/fixtures/pieces");
    copy_folder(&pieces.join("bpe"), folder.path());
    let file = folder.path().join("tokenizer.model");
    let seeds = [fs::read(&file).unwrap().into()];
    fuzz("models of SentencePiece", ALLOWED, &seeds, |_, damaged| {
        write_anew(&file, damaged);
        let tokenizer = Tokenizer::from_folder(folder.path()).map_err(|error| error.to_string())?;
        let segments = [Segment::Prompt(
            "The cat </s> <s> \u{2581}sees 12 b\u{fc}rds.",
        )];
        let encoded = tokenizer
            .encode(&segments)
            .map_err(|error| error.to_string())?;
        let ids = encoded.tokens.iter().filter_map(|token| match token {
            Token::Text(id) => Some(*id),
            Token::Picture(_) => None,
        });
        tokenizer
            .decode(&ids.collect::<Vec<_>>())
            .map_err(|error| error.to_string())?;
        Ok(())
    });
}

#[test]
fn models_that_speak() {
    let folder = model();
    let names = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "model.safetensors",
        "siglip-tower/config.json",
        "siglip-tower/preprocessor_config.json",
    ];
    let files = names.map(|name| folder.path().join(name));
    let whole = files.clone().map(|file| fs::read(file).unwrap());
    // Each of them by its number, which is cut off again.
    let seeds: Vec<Seed> = whole.iter().map(|bytes| bytes.clone().into()).collect();
    let source = ModelSource::merged(folder.path());
    let weights = whole[4].len();
    let allowed = Allowed {
        fixed: (64 << 20) + 40 * weights,
        per_byte: 200,
    };
    fuzz("models", allowed, &seeds, |random, damaged| {
        let is_json = damaged.first() == Some(&b'{');
        // The file that begins as this does.
        let mut at = random.below(names.len());
        while (at == 4) == is_json {
            at = random.below(names.len());
        }
        write_anew(&files[at], damaged);
        let speak = || -> Result<(), bunny_core::Error> {
            let pipeline = Pipeline::<Flex>::load(&source, Precision::F32, Default::default())?;
            let options = GenerationOptions {
                max_new_tokens: 3,
                ..Default::default()
            };
            let picture = image::RgbImage::new(5, 7);
            let mut chat = pipeline.chat();
            chat.ask("Red?", &[picture], &options, |_| ControlFlow::Continue(()))?;
            Ok(())
        };
        let spoke = speak();
        write_anew(&files[at], &whole[at]);
        spoke.map_err(|error| error.to_string())
    });
}

#[test]
fn models_in_gguf() {
    let folder = folder();
    let export = GgufExport {
        name: "small".into(),
        weights: GgufWeights::Q4KM,
        projector: GgufProjector::Mlp,
    };
    for name in ["minicpm-siglip", "phi-siglip"] {
        // Pieces with scores, and bytes with merges; the second one is what is damaged in its weights too.
        let open = ModelSource::merged(models().join(name)).open().unwrap();
        let to = folder.path().join(name);
        open.export_gguf(&to, &export).unwrap();
    }
    let files: Vec<PathBuf> = files_below(folder.path())
        .into_iter()
        .filter(|file| file.extension().is_some_and(|ending| ending == "gguf"))
        .collect();
    let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let seeds: Vec<Seed> = whole.iter().map(|bytes| bytes.clone().into()).collect();
    let weights = whole.iter().map(Vec::len).max().unwrap();
    let allowed = Allowed {
        fixed: (64 << 20) + 40 * weights,
        per_byte: 200,
    };
    fuzz("models in gguf", allowed, &seeds, |random, damaged| {
        let near = |at: &usize| whole[*at].len().abs_diff(damaged.len());
        let at = match random.once_in(8) {
            true => random.below(files.len()),
            false => (0..files.len()).min_by_key(near).unwrap(),
        };
        write_anew(&files[at], damaged);
        let source = ModelSource::merged(files[at].parent().unwrap());
        let load = || -> Result<(), bunny_core::Error> {
            let pipeline = Pipeline::<Flex>::load(&source, Precision::F32, Default::default())?;
            for text in ["Red? 12", " \t\n図 <|endoftext|></s>"] {
                pipeline.tokenizer.encode(&[Segment::Prompt(text)])?;
            }
            Ok(())
        };
        let loaded = load();
        write_anew(&files[at], &whole[at]);
        loaded.map_err(|error| error.to_string())
    });
}

#[test]
fn tokenizers() {
    const TEXTS: [&str; 4] = [
        "What is in the picture? 12 things, naïve ones.",
        "  \t\n\nüöß 图 🐇 <|endoftext|> </s>",
        "",
        "USER: hi ASSISTANT:",
    ];
    let folders: Vec<PathBuf> = fs::read_dir(root().join("bunny-core/tests/fixtures/words"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .chain(["phi-siglip", "stablelm-siglip"].map(|name| models().join(name)))
        .collect();
    let names = [
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
        "added_tokens.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ];
    let work = folder();
    let mut files = Vec::new();
    for (number, from) in folders.iter().enumerate() {
        let to = work.path().join(number.to_string());
        fs::create_dir(&to).unwrap();
        for name in names.iter().filter(|name| from.join(name).exists()) {
            fs::copy(from.join(name), to.join(name)).unwrap();
            files.push(to.join(name));
        }
    }
    let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let seeds: Vec<Seed> = whole.iter().map(|bytes| bytes.clone().into()).collect();
    fuzz("tokenizers", ALLOWED, &seeds, |random, damaged| {
        // In the place of the file that it resembles most: whose length is nearest, more often than not.
        let near = |at: &usize| whole[*at].len().abs_diff(damaged.len());
        let at = match random.once_in(4) {
            true => random.below(files.len()),
            false => (0..files.len()).min_by_key(near).unwrap(),
        };
        write_anew(&files[at], damaged);
        let opened = Tokenizer::from_folder(files[at].parent().unwrap());
        write_anew(&files[at], &whole[at]);
        let tokenizer = opened.map_err(|error| error.to_string())?;
        for text in TEXTS {
            let encoded = tokenizer.encode(&[Segment::Prompt(text)]);
            let encoded = encoded.map_err(|error| error.to_string())?;
            for token in &encoded.tokens {
                if let Token::Text(id) = token {
                    assert!((*id as usize) < tokenizer.vocab_size(), "{id}");
                }
            }
        }
        let ids = [0, 1, (tokenizer.vocab_size() as u32).saturating_sub(1)];
        tokenizer.decode(&ids).map_err(|error| error.to_string())?;
        Ok(())
    });
}
