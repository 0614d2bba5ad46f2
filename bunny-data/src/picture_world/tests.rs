//! What holds of the world as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::paint::Finish;
use super::theme::Beside;
use super::*;
use crate::images::{ImageSource, PictureCheck};
use crate::record::RecordFile;
use crate::validate::{RecordStage, ValidateOptions, validate};

const SEED: u64 = 11;

/// Whether a text names a combination that training must not know.
fn names_held_out(text: &str) -> Option<String> {
    let text = text.to_lowercase();
    Combination::all()
        .filter(|one| one.is_held_out())
        .map(|one| one.to_string())
        .find(|name| text.contains(name))
}

#[test]
fn training_never_shows_or_names_what_is_held_out() {
    let check = |scene: Option<&Scene>, text: &str| {
        assert_eq!(names_held_out(text), None, "{text}");
        for object in scene.iter().flat_map(|scene| &scene.objects) {
            assert!(!object.combination().is_held_out(), "{text}");
        }
        for lettering in scene.iter().flat_map(|scene| &scene.letterings) {
            if let Ok(number) = lettering.text.parse() {
                assert!(World::Train.has_number(number), "{number}");
            }
        }
    };
    for index in 0..400 {
        let pair = pair(SEED, index, 400);
        check(Some(&pair.scene), &pair.caption);
        let mut dice = Part::Conversations.dice(SEED, index);
        let (scene, exchanges) = talk::about_picture(&mut dice);
        for (asked, answered) in exchanges {
            check(Some(&scene), &asked);
            check(Some(&scene), &answered);
        }
        check(None, &texts::text(SEED, index));
    }
}

#[test]
fn no_text_tells_the_colour_of_a_shape() {
    let mut coloured = 0;
    for index in 0..400 {
        let text = texts::text(SEED, index).to_lowercase();
        for one in Combination::all() {
            assert!(!text.contains(&one.to_string()), "{one}: {text}");
        }
        let named = Colour::ALL
            .iter()
            .any(|one| text.contains(&format!("{one} thing")));
        coloured += usize::from(named);
    }
    assert!(coloured > 50, "{coloured}");
}

#[test]
fn nothing_said_of_a_picture_without_named_colours_names_one() {
    let (mut seen, mut halves) = (0, 0);
    let mut check = |scene: &Scene, text: &str| {
        let words = text.split(|letter: char| !letter.is_alphabetic());
        for word in words.map(str::to_lowercase) {
            let colour = Colour::ALL.iter().any(|one| one.name() == word);
            // A colour's name may be what is written there.
            let written = scene
                .letterings
                .iter()
                .any(|one| one.text.to_lowercase() == word);
            assert!(!colour || written || quotes(text, &word), "{text}");
        }
        seen += 1;
    };
    for index in 0..600 {
        let pair = pair(SEED, index, 600);
        if !pair.scene.has_colours() {
            check(&pair.scene, &pair.caption);
        }
    }
    for index in 0..1800 {
        let (scene, exchanges) = talk::about_picture(&mut Part::Conversations.dice(SEED, index));
        for text in exchanges.iter().flat_map(|(asked, answer)| [asked, answer]) {
            match scene.palette {
                Palette::Named => {}
                // Of things of two colours either is told, but never as if it were the thing's.
                Palette::Halves(_) => {
                    let text = text.to_lowercase();
                    let named = Combination::all().find(|one| text.contains(&one.to_string()));
                    assert_eq!(named, None, "{text}");
                    halves += 1;
                }
                Palette::Greys(_) | Palette::Free(_) => check(&scene, text),
            }
        }
    }
    // About three of ten of 1,800 conversations of two to four turns, and of the pairs; and two of ten.
    assert!(seen > 2500 && halves > 1200, "{seen}, {halves}");
}

/// Whether a text has a word in quotes.
fn quotes(text: &str, word: &str) -> bool {
    text.to_lowercase().contains(&format!("\"{word}\""))
}

#[test]
fn every_question_of_the_test_is_about_something_held_out_or_beside_it() {
    for index in 0..440 {
        let asked = exam::question(SEED, index);
        let Some((scene, _)) = asked.picture else {
            assert_eq!(asked.question.kind, "text");
            continue;
        };
        let name = asked.question.combination.unwrap();
        assert!(names_held_out(&name).is_some(), "{name}");
        let shown = scene
            .objects
            .iter()
            .any(|object| object.combination().to_string() == name);
        let asked_of = asked.question.question.to_lowercase().contains(&name);
        assert!(shown || asked_of, "{name}: {}", asked.question.question);
    }
}

#[test]
fn the_answers_of_a_type_are_as_frequent_as_each_other() {
    let mut answers: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    // 90 questions of each type.
    for index in 0..11 * 90 {
        let question = exam::question(SEED, index).question;
        *answers
            .entry(question.kind)
            .or_default()
            .entry(question.answer)
            .or_default() += 1;
    }
    // Nothing that is held out is a rainbow.
    for (kind, different) in [
        ("colour", Colour::ALL.len() as u64),
        ("shape", Shape::ALL.len() as u64 + 1),
        ("presence", 2),
        ("count", 6),
        ("position", 10),
        ("word", WORDS.len() as u64 + 1),
        ("texture", 5),
    ] {
        let counts = &answers[kind];
        assert_eq!(counts.len() as u64, different, "{counts:?}");
        let usual = 90 / different..=90_u64.div_ceil(different);
        assert!(
            counts.values().all(|count| usual.contains(count)),
            "{counts:?}"
        );
    }
    for side in ["left", "right", "above", "below"] {
        assert!((22..=23).contains(&answers["relation"][side]), "{side}");
    }
    assert!((8..=9).contains(&answers["digits"]["none"]));
}

#[test]
fn everything_is_inside_its_picture_and_large_enough_to_read() {
    for index in 0..600 {
        let scene = talk::scene(Beside::Often, &mut Part::Conversations.dice(SEED, index)).0;
        assert!((0.75..=1.34).contains(&scene.aspect));
        assert!(scene.objects.len() <= 6, "{}", scene.objects.len());
        let sides = [scene.aspect.min(1.0), (1.0 / scene.aspect).min(1.0)];
        for object in &scene.objects {
            // The narrowest shape is a diamond, 1.28 radii across.
            assert!(object.radius * 112.0 >= 12.9);
            for (at, side) in object.centre.iter().zip(sides) {
                let (low, high) = (at * side - object.radius, at * side + object.radius);
                assert!(low >= -1e-4 && high <= side + 1e-4, "{object:?}");
            }
        }
        for lettering in &scene.letterings {
            assert!(lettering.height * 112.0 >= 20.0);
            let half = lettering.height * lettering.font.width(&lettering.text) / 2.0;
            let middle = lettering.centre[0] * sides[0];
            assert!(
                middle - half >= 0.0 && middle + half <= sides[0],
                "{lettering:?}"
            );
        }
    }
}

/// Of the colours, the one nearest to a pixel.
fn nearest(pixel: [f32; 3]) -> Colour {
    let distance = |colour: Colour| -> f32 {
        let levels = colour.rgb().into_iter().zip(pixel);
        levels.map(|(a, b)| (a - b) * (a - b)).sum()
    };
    let all = Colour::ALL.iter().copied();
    all.min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
        .unwrap()
}

#[test]
fn shapes_have_their_colour_and_their_place_in_the_pixels() {
    for combination in Combination::all() {
        for place in Place::ALL {
            let [x, y] = place.range().map(|[low, high]| (low + high) / 2.0);
            let scene = Scene {
                aspect: 1.25,
                background: Background::Plain([140.0; 3]),
                objects: vec![Object {
                    shape: combination.shape,
                    colour: combination.colour,
                    shade: [0.0; 3],
                    texture: Texture::Plain,
                    size: Size::Small,
                    centre: [x, y],
                    radius: 0.08,
                    tilt: 0.05,
                    hue: 0.0,
                }],
                letterings: Vec::new(),
                palette: Palette::Named,
            };
            let finish = Finish {
                longer_side: 120,
                blur: 0.0,
                noise: 0.0,
                quality: 90,
                seed: 0,
            };
            let picture = paint(&scene, &finish);
            assert_eq!((picture.width, picture.height), (120, 96));
            // The pixels that are not background: their mean place and their usual colour.
            let mut sum = [0.0; 2];
            let mut colours: BTreeMap<Colour, usize> = BTreeMap::new();
            let mut seen = 0.0;
            for (at, pixel) in picture.pixels.chunks_exact(3).enumerate() {
                if pixel == [140; 3] {
                    continue;
                }
                sum[0] += (at % 120) as f32 + 0.5;
                sum[1] += (at / 120) as f32 + 0.5;
                seen += 1.0;
                let levels = [0, 1, 2].map(|channel| f32::from(pixel[channel]));
                *colours.entry(nearest(levels)).or_default() += 1;
            }
            assert!(seen > 80.0, "{combination}: {seen} pixels");
            let centre = [sum[0] / seen / 120.0, sum[1] / seen / 96.0];
            assert_eq!(Place::of(centre), Some(*place), "{combination}");
            if combination.colour == Colour::Rainbow {
                assert!(colours.len() > 3, "{combination}: {colours:?}");
                continue;
            }
            let most = colours.into_iter().max_by_key(|(_, count)| *count).unwrap();
            assert_eq!(most.0, combination.colour);
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn embeddings_tell_right_captions_from_wrong_ones_and_duplicates_from_the_rest() {
    let pairs: Vec<Pair> = (0..600).map(|index| pair(SEED, index, 600)).collect();
    let mean = |kind: PairKind| {
        let scores: Vec<f32> = pairs
            .iter()
            .filter(|pair| pair.kind == kind)
            .map(|pair| dot(&pair.image_embedding, &pair.text_embedding))
            .collect();
        scores.iter().sum::<f32>() / scores.len() as f32
    };
    let [right, vague, wrong] = [PairKind::Right, PairKind::Vague, PairKind::Wrong].map(mean);
    assert!(
        right > vague + 0.1 && vague > wrong + 0.05,
        "{right} {vague} {wrong}"
    );
    let (mut same, mut other) = (Vec::new(), Vec::new());
    for (at, a) in pairs.iter().enumerate() {
        for b in &pairs[..at] {
            let cosine = dot(&a.image_embedding, &b.image_embedding);
            if a.content == b.content {
                &mut same
            } else {
                &mut other
            }
            .push(cosine);
        }
    }
    assert!(same.len() > 80, "{} pairs of duplicates", same.len());
    // The paper's threshold parts them.
    assert!(same.iter().all(|cosine| *cosine > 0.86));
    assert!(other.iter().all(|cosine| *cosine < 0.86));
}

#[test]
fn kinds_of_pairs_come_in_their_shares() {
    for pairs in [1, 7, 200, 1001] {
        let mut counts: BTreeMap<PairKind, u64> = BTreeMap::new();
        let mut contents = BTreeSet::new();
        for index in 0..pairs {
            let rank = crate::order::shuffled(index, pairs, 5);
            let (kind, content) = pairs::kind(SEED, rank, pairs);
            *counts.entry(kind).or_default() += 1;
            match kind {
                PairKind::Duplicate => assert!(content < pairs * 55 / 100),
                _ => assert!(contents.insert(content), "scenes are new"),
            }
        }
        for kind in [PairKind::Wrong, PairKind::Vague, PairKind::Duplicate] {
            let count = counts.get(&kind).copied().unwrap_or(0);
            assert_eq!(count, pairs * kind.percent() / 100, "{kind} of {pairs}");
        }
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}

const SMALL: WorldOptions = WorldOptions {
    seed: SEED,
    pairs: 60,
    conversations: 40,
    questions: 33,
    texts: 20,
};

#[test]
fn the_same_seed_gives_the_same_files_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let written = [(SEED, 1), (SEED, 3), (SEED + 1, 2)].map(|(seed, threads)| {
        let out = folder.path().join(format!("{seed}-{threads}"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let options = WorldOptions { seed, ..SMALL };
        pool.build()
            .unwrap()
            .install(|| write_world(&out, &options, &|_, _| {}))
            .unwrap();
        files(&out)
    });
    assert!(written[0] == written[1], "threads change nothing");
    assert_eq!(
        written[0].len(),
        written[2].len() + {
            // Conversations without a picture have none to store.
            let pictures = |of: &BTreeMap<String, Vec<u8>>| {
                of.keys().filter(|name| name.ends_with(".jpg")).count()
            };
            pictures(&written[0]) - pictures(&written[2])
        }
    );
    for (name, bytes) in &written[0] {
        if let Some(other) = written[2].get(name) {
            assert_ne!(bytes, other, "{name} hangs on the seed");
        }
    }
}

#[test]
fn what_is_written_is_valid_and_what_was_there_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("world");
    let manifest = write_world(&out, &SMALL, &|_, _| {}).unwrap();
    assert_eq!(manifest.pairs["right"], 33);
    assert_eq!(manifest.conversations.iter().sum::<u64>(), 40);
    assert_eq!(manifest.questions["colour"], 3);
    for (name, stage) in [
        ("pretrain", RecordStage::Pretrain),
        ("finetune", RecordStage::Finetune),
    ] {
        let file = RecordFile::open(out.join(name).with_extension("json")).unwrap();
        let images = ImageSource::open(out.join(name).join("images")).unwrap();
        let options = ValidateOptions {
            stage,
            images: Some(&images),
            pictures: PictureCheck::Decode,
            ..ValidateOptions::default()
        };
        let report = validate(&file, &options, &|_, _| {}).unwrap();
        assert_eq!(report.findings, []);
        assert!(report.pictures > 30);
    }
    let test = open_test(&out).unwrap();
    assert_eq!(test.len(), 33);
    for image in test.iter().filter_map(|question| question.image.as_ref()) {
        assert!(out.join("test/images").join(image).is_file());
    }
    let before = files(&out);
    let error = write_world(&out, &SMALL, &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("name a new folder"), "{error}");
    assert!(files(&out) == before);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing left behind"
    );
}

#[test]
fn a_place_that_cannot_hold_a_world_is_refused_before_anything_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "kept").unwrap();
    let here = std::env::current_dir().unwrap();
    for (out, why) in [
        (&*file, "not a folder"),
        (&*file.join(""), "not a folder"),
        (Path::new("."), "current folder"),
        (Path::new(".."), "current folder"),
        (&*here, "current folder"),
    ] {
        let error = write_world(out, &SMALL, &|_, _| panic!("drawn")).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"kept");
}

#[test]
fn what_is_said_to_be_at_a_place_is_there_alone() {
    let (mut found, mut empty) = (0, 0);
    for index in 0..600 {
        let mut dice = Part::Conversations.dice(SEED, index);
        let (scene, exchanges) = talk::about_picture(&mut dice);
        for (asked, answer) in exchanges {
            let asks = ["What is ", "What do you see ", "Tell me what is "];
            let phrase = |start: &&str| {
                asked
                    .strip_prefix(*start)
                    .map(|end| end.trim_end_matches(['?', '.']))
            };
            let place = asks
                .iter()
                .filter_map(phrase)
                .find_map(|phrase| Place::ALL.iter().position(|place| place.phrase() == phrase));
            let Some(place) = place else { continue };
            let here = |centre: [f32; 2]| {
                let [column, row] = centre.map(|at| (3.0 * at).min(2.9) as usize);
                3 * row + column == place
            };
            let letters = scene
                .letterings
                .iter()
                .filter(|one| here(one.centre))
                .count();
            let things: Vec<_> = scene
                .objects
                .iter()
                .filter(|one| here(one.centre))
                .collect();
            assert_eq!(letters, 0, "{asked}");
            if answer == "Nothing." {
                assert!(things.is_empty(), "{asked}");
                empty += 1;
            } else {
                assert_eq!(things.len(), 1, "{asked}");
                let name = match scene.has_colours() {
                    true => format!("{}.", things[0].combination()),
                    false => format!(" {}.", things[0].shape),
                };
                assert!(answer.ends_with(&name), "{asked} {answer}");
                assert!(
                    answer.to_lowercase().contains(things[0].size.name()),
                    "{answer}"
                );
                found += 1;
            }
        }
    }
    assert!(found > 100 && empty > 10, "{found} {empty}");
}

/// Of a list, the value whose name a text has as words of its own.
fn named<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, text: &str) -> Option<T> {
    let text = format!(" {text} ");
    // The longest first: "top" is in "top left".
    let found = all
        .iter()
        .copied()
        .filter(|one| text.contains(&format!(" {} ", name(*one))));
    found.max_by_key(|one| name(*one).len())
}

#[test]
fn what_is_said_to_be_there_is_there_with_all_its_traits() {
    // By the number of traits beside shape and colour: answers of yes and of no.
    let mut answers = [[0, 0]; 2];
    for index in 0..2400 {
        let mut dice = Part::Conversations.dice(SEED, index);
        let (scene, exchanges) = talk::about_picture(&mut dice);
        for (asked, answer) in exchanges {
            let Some(end) = asked.strip_prefix("Is there a") else {
                continue;
            };
            if asked.contains("number") || asked.contains("word ") {
                continue;
            }
            let (thing, _) = end.split_once('?').unwrap();
            let thing = thing.trim_end_matches(" in the picture");
            let size = named(Size::ALL, Size::name, thing);
            let texture = named(Texture::ALL, Texture::name, thing);
            let place = named(Place::ALL, Place::phrase, thing);
            let shape = named(Shape::ALL, Shape::name, thing);
            let colour = named(Colour::ALL, Colour::name, thing);
            // "that is half red": of things of two colours.
            let is_half = thing.contains(" that is ");
            let is_of_colour = |at: usize, colour: Colour| match &scene.palette {
                Palette::Halves(halves) if is_half => halves[at].names.contains(&colour),
                _ => scene.objects[at].colour == colour,
            };
            let is_meant = |(at, object): (usize, &Object)| {
                size.is_none_or(|size| object.size == size)
                    && texture.is_none_or(|texture| object.texture == texture)
                    && place.is_none_or(|place| object.place() == Some(place))
                    && shape.is_none_or(|shape| object.shape == shape)
                    && colour.is_none_or(|colour| is_of_colour(at, colour))
            };
            let there = scene.objects.iter().enumerate().any(is_meant);
            let yes = answer.to_lowercase().starts_with("yes");
            assert_eq!(there, yes, "{asked} {answer}");
            let more = size.is_some() || texture.is_some() || place.is_some();
            answers[usize::from(more)][usize::from(yes)] += 1;
        }
    }
    assert!(
        answers.as_flattened().iter().all(|count| *count > 20),
        "{answers:?}"
    );
}

#[test]
fn a_test_of_a_later_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("manifest.json");
    fs::write(&manifest, r#"{"format_version": 2}"#).unwrap();
    let error = open_test(folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            crate::DataError::Newer {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    fs::write(&manifest, "[]").unwrap();
    let error = open_test(folder.path()).unwrap_err();
    assert!(error.to_string().contains("manifest.json"), "{error}");
}
