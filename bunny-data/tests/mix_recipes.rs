//! Mixes: the published recipes as they stand, and each operation on small files.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use bunny_data::images::ImageSource;
use bunny_data::mix::{Manifest, Mix, MixRecipe};
use bunny_data::record::RecordFile;
use bunny_data::{DataError, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/mixes")
}

fn record(id: &str, image: Option<&str>) -> Value {
    let mut record = json!({"id": id, "conversations": [
        {"from": "human", "value": format!("ask {id}")}, {"from": "gpt", "value": "answer [0.0, 0.0, 1.0, 1.0]"}]});
    if let Some(image) = image {
        record["image"] = image.into();
    }
    record
}

/// A folder with `a.json`, ten records of which every third has no picture, and `b.json`, four
/// instructions.
fn inputs() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let a: Vec<Value> = (0..10)
        .map(|at| {
            let image = format!("coco/{at}.jpg");
            let mut record = record(&format!("a{at}"), (at % 3 != 0).then_some(&*image));
            if at % 3 == 0 {
                record["model"] = "".into();
            }
            record
        })
        .collect();
    let b: Vec<Value> = (0..4)
        .map(|at| json!({"instruction": format!("do {at}"), "input": if at == 1 { "this" } else { "" }, "output": "done"}))
        .collect();
    fs::write(
        folder.path().join("a.json"),
        serde_json::to_vec_pretty(&a).unwrap(),
    )
    .unwrap();
    fs::write(
        folder.path().join("b.json"),
        serde_json::to_vec(&b).unwrap(),
    )
    .unwrap();
    folder
}

const A: &str = "[[source]]\nname = 'a'\npath = 'a.json'\n";
const B: &str = "[[source]]\nname = 'b'\npath = 'b.json'\nformat = 'alpaca'\nids = 'w_'\n";

fn read(folder: &TempDir, text: &str) -> Result<MixRecipe> {
    let path = folder.path().join("recipe.toml");
    fs::write(&path, text).unwrap();
    MixRecipe::read(path)
}

fn mix(folder: &TempDir, body: &str) -> Result<(Vec<Value>, Manifest)> {
    let recipe = read(folder, &format!("format_version = 1\nname = 'm'\n{body}"))?;
    let out = folder.path().join("out.json");
    let manifest = Mix::open(recipe, folder.path(), None)?.write(&out, false, &|_, _| {})?;
    Ok((
        serde_json::from_slice(&fs::read(out).unwrap()).unwrap(),
        manifest,
    ))
}

fn ids(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record["id"].as_str().unwrap())
        .collect()
}

#[test]
fn the_published_recipes_read_and_add_up() {
    let mut totals = HashMap::new();
    for entry in fs::read_dir(recipes()).unwrap() {
        let path = entry.unwrap().path();
        let recipe = MixRecipe::read(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert_eq!(recipe.name, name);
        totals.insert(name, recipe);
    }
    assert_eq!(totals.len(), 5);
    // LLaVA's parts, from the tallies its authors published by dataset, by folder and in all.
    let llava = &totals["llava-v1.5-mix665k"];
    assert_eq!(
        llava.sources[0].expect_roots.values().sum::<usize>(),
        665_298
    );
    let by_dataset = 157_712 + 82_783 + 8_998 + 66_160 + 48_447;
    assert_eq!(llava.sources[0].expect_roots["coco"], by_dataset);
    let bunny = &totals["bunny-695k"];
    assert!(
        bunny
            .expect
            .as_ref()
            .unwrap()
            .allows(665_298 - 40_688 + 70_000)
    );
    assert!(
        totals["bunny-llava-1.4m"]
            .expect
            .as_ref()
            .unwrap()
            .allows(694_611 + 665_298)
    );
}

#[test]
fn bunny_695k_replaces_what_has_no_picture_by_wizardlm() {
    // The published recipe, its counts made those of small inputs.
    let folder = inputs();
    fs::rename(
        folder.path().join("a.json"),
        folder.path().join("SVIT_mix_665K.json"),
    )
    .unwrap();
    fs::rename(
        folder.path().join("b.json"),
        folder.path().join("alpaca_evol_instruct_70k.json"),
    )
    .unwrap();
    let text = fs::read_to_string(recipes().join("bunny-695k.toml")).unwrap();
    let recipe = read(&folder, &text).unwrap();
    let out = folder.path().join("out.json");
    let mixed = Mix::open(recipe, folder.path(), None).unwrap();
    let error = mixed.write(&out, false, &|_, _| {}).unwrap_err();
    let DataError::Counts { differences, .. } = error else {
        panic!("{error}")
    };
    let found: Vec<_> = differences
        .iter()
        .map(|d| (d.source.as_str(), d.found))
        .collect();
    assert_eq!(
        found,
        [
            ("svit-mix-665k", 10),
            ("wizardlm-70k", 4),
            ("svit-mix-665k", 4),
            ("the mix", 10)
        ]
    );
    assert!(!out.exists());

    let manifest = mixed.write(&out, true, &|_, _| {}).unwrap();
    assert!(manifest.accepted_counts);
    assert_eq!(manifest.differences, differences);
    let records: Vec<Value> = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(
        ids(&records),
        [
            "a1",
            "a2",
            "a4",
            "a5",
            "a7",
            "a8",
            "wizardlm_0",
            "wizardlm_1",
            "wizardlm_2",
            "wizardlm_3"
        ]
    );
    assert_eq!(
        records[7],
        json!({"id": "wizardlm_1", "conversations": [
            {"from": "human", "value": "do 1\nthis"}, {"from": "gpt", "value": "done"}]})
    );
    let on_disk: Value =
        serde_json::from_slice(&fs::read(folder.path().join("out.json.manifest.json")).unwrap())
            .unwrap();
    assert_eq!(on_disk, serde_json::to_value(&manifest).unwrap());
}

#[test]
fn records_nothing_changes_keep_every_field() {
    let folder = inputs();
    let (records, manifest) = mix(&folder, A).unwrap();
    let original: Vec<Value> =
        serde_json::from_slice(&fs::read(folder.path().join("a.json")).unwrap()).unwrap();
    assert_eq!(records, original);
    assert_eq!(manifest.output.records, 10);
    // The hash is that of the file as another tool sees it.
    let bytes = fs::read(folder.path().join("out.json")).unwrap();
    use sha2::Digest;
    let hash: String = sha2::Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        (manifest.output.sha256, manifest.output.bytes),
        (hash, bytes.len() as u64)
    );
}

#[test]
fn filters_take_and_repeat_follow_each_other() {
    let folder = inputs();
    let with = |more: &str| ids_of(mix(&folder, &format!("{A}{more}\n")));
    assert_eq!(with("filter = { image = false }"), ["a0", "a3", "a6", "a9"]);
    assert_eq!(with("filter = { has = 'model' }"), ["a0", "a3", "a6", "a9"]);
    assert_eq!(
        with("filter = { lacks = 'model', id_prefix = 'a1' }"),
        ["a1"]
    );
    assert_eq!(
        with("filter = { image_root = 'coco' }\ntake = { first = 2 }"),
        ["a1", "a2"]
    );
    assert_eq!(
        with("take = { first = 2 }\nrepeat = 2"),
        ["a0", "a1", "a0", "a1"]
    );
    assert_eq!(with("take = { fraction = 0.3 }").len(), 3);
    assert_eq!(with("filter = { max_words = 1 }"), [""; 0]);
    let random = with("take = { random = 5 }");
    assert!(random.len() == 5 && random.is_sorted());
    let once_and_half = with("repeat = 1.5");
    assert_eq!(once_and_half.len(), 15);
}

/// The ids of a mix; none of one that is refused for being empty.
fn ids_of(mixed: Result<(Vec<Value>, Manifest)>) -> Vec<String> {
    if let Err(error @ DataError::Recipe { .. }) = &mixed {
        assert!(
            error.to_string().contains("the mix would be empty"),
            "{error}"
        );
        return Vec::new();
    }
    ids(&mixed.unwrap().0)
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn weights_share_out_the_total_exactly() {
    let folder = inputs();
    let (records, manifest) = mix(
        &folder,
        &format!("total = 31\n{A}weight = 2\n{B}weight = 1\n"),
    )
    .unwrap();
    assert_eq!(records.len(), 31);
    assert_eq!(
        manifest
            .sources
            .iter()
            .map(|source| source.used)
            .collect::<Vec<_>>(),
        [21, 10]
    );
    let mut seen: HashMap<&str, usize> = HashMap::new();
    ids(&records)
        .into_iter()
        .for_each(|id| *seen.entry(id).or_default() += 1);
    assert!(
        seen.iter()
            .all(|(id, times)| (2..=3).contains(times) && !id.is_empty()),
        "{seen:?}"
    );
}

#[test]
fn a_shuffle_is_seeded_and_loses_nothing() {
    let folder = inputs();
    let shuffled = |seed| {
        ids_of(mix(
            &folder,
            &format!("order = 'shuffle'\nseed = {seed}\n{A}{B}"),
        ))
    };
    let appended = ids_of(mix(&folder, &format!("{A}{B}")));
    let (one, again, two) = (shuffled(1), shuffled(1), shuffled(2));
    assert_eq!(one, again);
    assert!(one != appended && two != one);
    let sorted = |mut ids: Vec<String>| {
        ids.sort_unstable();
        ids
    };
    assert_eq!(sorted(one), sorted(appended.clone()));
    assert_eq!(sorted(two), sorted(appended));
}

#[test]
fn parquet_mixes_as_its_json_does_shuffled_too() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/records");
    let folder = inputs();
    fs::copy(
        fixtures.join("zstd.parquet"),
        folder.path().join("p.parquet"),
    )
    .unwrap();
    let parquet = RecordFile::open(folder.path().join("p.parquet")).unwrap();
    let lines: Vec<u8> = (0..parquet.len())
        .flat_map(|at| [parquet.raw(at).unwrap().to_vec(), b"\n".to_vec()].concat())
        .collect();
    fs::write(folder.path().join("p.jsonl"), lines).unwrap();
    for order in ["append", "shuffle"] {
        let of = |path: &str| {
            mix(
                &folder,
                &format!("order = '{order}'\n{A}[[source]]\nname = 'p'\npath = '{path}'\n"),
            )
            .unwrap()
            .0
        };
        assert_eq!(of("p.parquet"), of("p.jsonl"));
    }
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().into_string().ok())
        .filter(|n| n.starts_with(".bunny"))
        .collect();
    assert_eq!(left, [""; 0], "nothing temporary is left");
}

#[test]
fn boxes_and_image_folders_are_rewritten_from_the_pictures_sizes() {
    let folder = inputs();
    fs::create_dir_all(folder.path().join("images/coco")).unwrap();
    for at in 0..10 {
        image::RgbImage::new(200, 100)
            .save(folder.path().join(format!("images/coco/{at}.jpg")))
            .unwrap();
    }
    let recipe = read(
        &folder,
        &format!("format_version = 1\nname = 'm'\n{A}image_root = 'all/'\nboxes = {{ from = 'original', to = 'padded' }}\n"),
    )
    .unwrap();
    let error = Mix::open(recipe.clone(), folder.path(), None).unwrap_err();
    assert!(error.to_string().contains("image folder"), "{error}");
    let images = ImageSource::open(folder.path().join("images")).unwrap();
    let out = folder.path().join("out.jsonl");
    Mix::open(recipe, folder.path(), Some(images))
        .unwrap()
        .write(&out, false, &|_, _| {})
        .unwrap();
    let records = RecordFile::open(&out).unwrap();
    let (text, picture) = (records.get(0).unwrap(), records.get(1).unwrap());
    assert_eq!(text.conversations[1].value, "answer [0.0, 0.0, 1.0, 1.0]");
    assert_eq!(text.extra["model"], "");
    assert_eq!(picture.images(), ["all/coco/1.jpg"]);
    assert_eq!(
        picture.conversations[1].value,
        "answer [0.0, 0.25, 1.0, 0.75]"
    );
}

#[test]
fn a_folder_of_pictures_is_named_with_or_without_its_slash() {
    let folder = tempfile::tempdir().unwrap();
    let images = [
        Some("coco/train2017/0.jpg"),
        Some("coco/val2017/1.jpg"),
        Some("cocoa/2.jpg"),
        Some("3.jpg"),
        None,
    ];
    let records: Vec<Value> = (0..)
        .zip(images)
        .map(|(at, image)| record(&format!("r{at}"), image))
        .collect();
    let bytes = serde_json::to_vec(&records).unwrap();
    fs::write(folder.path().join("a.json"), bytes).unwrap();
    for (root, expected) in [
        ("coco", &["r0", "r1"][..]),
        ("coco/", &["r0", "r1"]),
        ("coco/train2017", &["r0"]),
        ("coco/train2017/", &["r0"]),
        ("coco/train", &[]),
        ("coco/train2017/0.jpg", &[]),
        (".", &["r3"]),
        ("", &["r4"]),
    ] {
        let filter = format!("{A}filter = {{ image_root = '{root}' }}\n");
        assert_eq!(ids_of(mix(&folder, &filter)), expected, "{root}");
    }
    for root in ["all", "all/"] {
        let (records, _) = mix(&folder, &format!("{A}image_root = '{root}'\n")).unwrap();
        assert_eq!(records[3]["image"], "all/3.jpg");
        assert_eq!(records[4].get("image"), None);
    }
}

#[test]
fn a_picture_is_measured_where_the_mix_says_or_where_its_source_does() {
    let folder = tempfile::tempdir().unwrap();
    let records = [record("0", Some("0.jpg")), record("1", Some("1.jpg"))];
    let bytes = serde_json::to_vec(&records).unwrap();
    fs::write(folder.path().join("a.json"), bytes).unwrap();
    let pictures = folder.path().join("images");
    fs::create_dir_all(pictures.join("all")).unwrap();
    for (name, width, height) in [
        ("all/0.jpg", 200, 100),
        ("0.jpg", 100, 200),
        ("1.jpg", 100, 200),
    ] {
        image::RgbImage::new(width, height)
            .save(pictures.join(name))
            .unwrap();
    }
    let body = "image_root = 'all'\nboxes = { from = 'original', to = 'padded' }\n";
    let recipe = read(
        &folder,
        &format!("format_version = 1\nname = 'm'\n{A}{body}"),
    )
    .unwrap();
    let images = ImageSource::open(&pictures).unwrap();
    let out = folder.path().join("out.json");
    let mixed = Mix::open(recipe, folder.path(), Some(images)).unwrap();
    mixed.write(&out, false, &|_, _| {}).unwrap();
    let records = RecordFile::open(&out).unwrap();
    let answer = |at| records.get(at).unwrap().conversations[1].value.clone();
    assert_eq!(answer(0), "answer [0.0, 0.25, 1.0, 0.75]");
    assert_eq!(answer(1), "answer [0.25, 0.0, 0.75, 1.0]");
    // Where it is in neither place, the name it has in the mix is told.
    fs::remove_file(pictures.join("1.jpg")).unwrap();
    let error = mixed.write(&out, false, &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("`all/1.jpg`"), "{error}");
}

#[test]
fn wrong_recipes_name_the_line_and_the_nearest_key() {
    let folder = inputs();
    let head = "format_version = 1\nname = 'm'\n";
    for (text, parts) in [
        (format!("{head}{A}repaet = 2\n"), ["line 6", "`repeat`"]),
        (
            format!("{head}{A}filter = {{ imag = true }}\n"),
            ["line 6", "`image`"],
        ),
        (
            format!("{head}{A}take = {{ frist = 2 }}\n"),
            ["line 6", "`first`"],
        ),
        (
            format!("{head}{A}take = 500\n"),
            ["line 6", "{ first = 500 }"],
        ),
        (
            format!("{head}expect = 'all'\n{A}"),
            ["line 3", "`expect` is written as a count"],
        ),
        (
            format!("{head}ordre = 'shuffle'\n{A}"),
            ["line 3", "`order`"],
        ),
        (format!("{head}{A}format = 'lava'\n"), ["line 6", "`llava`"]),
        (
            format!("format_version = 2\nname = 'm'\n{A}"),
            ["format_version", "version 1"],
        ),
        (format!("{head}{A}{A}"), ["a:", "two sources"]),
        (format!("{head}{A}weight = 1\n"), ["weight", "total"]),
        (
            format!("{head}{A}replace = {{ where = {{ image = false }}, by = 'c' }}\n"),
            ["a:", "replace.by"],
        ),
        (
            format!("{head}[[source]]\nname = 'd'\ndataoptim = 'gqqa'\n"),
            ["recipe m: d: dataoptim = \"gqqa\"", "DataOptim"],
        ),
        (format!("{head}{A}repeat = -1\n"), ["a:", "repeat"]),
        (
            format!("{head}{A}take = {{ fraction = nan }}\n"),
            ["a:", "fraction"],
        ),
    ] {
        let error = read(&folder, &text).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_record_that_is_none_stops_the_mix_and_leaves_the_old_output() {
    let folder = inputs();
    fs::write(
        folder.path().join("a.json"),
        r#"[{"id":"x","conversations":[]},{"id":"y"}]"#,
    )
    .unwrap();
    fs::write(folder.path().join("out.json"), "before").unwrap();
    let error = mix(&folder, A).unwrap_err();
    assert!(
        matches!(
            error,
            DataError::Record {
                index: 1,
                offset: 31,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(fs::read(folder.path().join("out.json")).unwrap(), b"before");
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_is_an_error_with_the_outputs_name() {
    let folder = inputs();
    let recipe = read(&folder, &format!("format_version = 1\nname = 'm'\n{A}")).unwrap();
    let mixed = Mix::open(recipe, folder.path(), None).unwrap();
    let error = mixed
        .write("/proc/out.json", false, &|_, _| {})
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/proc/out.json: cannot write"),
        "{error}"
    );
}

#[test]
fn a_total_or_a_repeat_beyond_memory_is_named() {
    let folder = inputs();
    for total in [1_000_000_000_000_i64, i64::MAX] {
        let a = A.replace("path", "weight = 1.0\npath");
        let error = mix(&folder, &format!("total = {total}\n{a}")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("recipe m: total: asks for more records"),
            "{text}"
        );
    }
}

#[test]
fn a_mix_of_nothing_is_not_written() {
    let folder = inputs();
    let error = mix(&folder, &format!("{A}take = {{ first = 0 }}\n")).unwrap_err();
    assert!(
        error.to_string().contains("the mix would be empty"),
        "{error}"
    );
    assert!(!folder.path().join("out.json").exists());
}

#[test]
fn records_of_other_libraries_stand_in_a_mix_as_llava_s() {
    let folder = inputs();
    let messages = r#"{"id": "m", "images": ["a.jpg"], "source": "x", "messages": [
        {"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "A hare."}]}"#;
    let own = json!({"id": "o", "conversations": [{"from": "human", "value": "Hi", "n": 1}, {"from": "gpt", "value": "Ho"}]});
    let text = format!("{}\n{own}\n", messages.replace('\n', " "));
    fs::write(folder.path().join("m.jsonl"), text).unwrap();
    let source = "[[source]]\nname = 'm'\npath = 'm.jsonl'\nimage_root = 'coco'\n";
    let (records, _) = mix(&folder, source).unwrap();
    assert_eq!(
        records,
        [
            json!({"id": "m", "image": ["coco/a.jpg"], "source": "x", "conversations": [
                {"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A hare."}]}),
            own
        ]
    );
}
