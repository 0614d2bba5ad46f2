//! What a dry pass finds before a model is loaded, and pictures wherever they are kept.

use std::path::Path;

use bunny_eval::check::{check, files};
use bunny_eval::picture::Pictures;
use bunny_eval::{Benchmark, Folder, folder, questions};

use crate::fixtures;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn every_benchmark_has_all_its_pictures_and_says_what_is_not_as_published() {
    for benchmark in Benchmark::ALL {
        let found = check(benchmark, folder(benchmark, fixtures()).unwrap()).unwrap();
        assert_eq!(found.problems, [""; 0], "{benchmark}");
        assert!(found.questions > 0 && found.pictures > 0, "{benchmark}");
        assert!(
            found.files.iter().all(|file| file.place.is_some()),
            "{benchmark}: {:?}",
            found.files
        );
        // Small sets of our own are none of the published files.
        for file in found
            .files
            .iter()
            .filter(|file| file.as_published.is_some())
        {
            assert_eq!(file.as_published, Some(false));
            assert!(
                found
                    .remarks
                    .iter()
                    .any(|remark| remark.starts_with(file.name))
            );
        }
    }
}

#[test]
fn every_picture_can_be_read_from_files_tables_and_parquet() {
    for benchmark in Benchmark::ALL {
        let folder = folder(benchmark, fixtures()).unwrap();
        let pictures = Pictures::new(&folder);
        let questions = questions(benchmark, &folder).unwrap();
        for picture in questions.iter().flat_map(|question| &question.pictures) {
            assert!(
                pictures.has(picture).unwrap(),
                "{benchmark}: {}",
                picture.name
            );
            let bytes = pictures.read(picture).unwrap();
            assert!(
                bytes.starts_with(b"\x89PNG") && bytes.len() > 60,
                "{benchmark}: {}",
                picture.name
            );
        }
    }
}

#[test]
fn missing_pictures_are_counted_and_named() {
    let root = tempfile::tempdir().unwrap();
    copy(&fixtures().join("pope"), root.path());
    std::fs::remove_file(root.path().join("val2014/COCO_val2014_000000001102.jpg")).unwrap();
    let found = check(Benchmark::Pope, Folder::open(root.path()).unwrap()).unwrap();
    assert_eq!((found.pictures, found.missing_pictures), (2, 1));
    assert_eq!(
        found.problems,
        ["1 of 2 pictures are not there, such as COCO_val2014_000000001102.jpg"]
    );
}

#[test]
fn wrong_files_are_problems_not_failures() {
    let root = tempfile::tempdir().unwrap();
    copy(&fixtures().join("pope"), root.path());
    let labels = root.path().join("coco/coco_pope_random.json");
    let kept = std::fs::read_to_string(&labels).unwrap();
    std::fs::write(&labels, kept.lines().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
    let found = check(Benchmark::Pope, Folder::open(root.path()).unwrap()).unwrap();
    assert!(
        found.problems[0].contains("e3e39262"),
        "{:?}",
        found.problems
    );

    let newer = Folder::open(fixtures().join("mmbench-newer")).unwrap();
    let found = check(Benchmark::MmbenchDev, newer).unwrap();
    assert!(
        found.problems[0].contains("is the newer table"),
        "{:?}",
        found.problems
    );
}

#[test]
fn a_zipped_benchmark_is_asked_and_scored_like_a_plain_one() {
    use std::io::Write;
    fn add(zip: &mut zip::ZipWriter<std::fs::File>, from: &Path, below: &str) {
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{below}{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                add(zip, &path, &format!("{name}/"));
            } else {
                zip.start_file(name, zip::write::SimpleFileOptions::default())
                    .unwrap();
                zip.write_all(&std::fs::read(path).unwrap()).unwrap();
            }
        }
    }
    let root = tempfile::tempdir().unwrap();
    for name in ["mme", "mmmu", "mmbench", "scienceqa"] {
        let mut zip = zip::ZipWriter::new(
            std::fs::File::create(root.path().join(format!("{name}.zip"))).unwrap(),
        );
        add(&mut zip, &fixtures().join(name), "");
        zip.finish().unwrap();
    }
    for benchmark in [
        Benchmark::Mme,
        Benchmark::MmmuVal,
        Benchmark::MmmuTest,
        Benchmark::MmbenchDev,
        Benchmark::ScienceQa,
    ] {
        let (zipped, plain) = (
            folder(benchmark, root.path()).unwrap(),
            folder(benchmark, fixtures()).unwrap(),
        );
        let asked = |folder: &Folder| {
            let questions = questions(benchmark, folder).unwrap();
            questions
                .into_iter()
                .map(|question| question.text)
                .collect::<Vec<_>>()
        };
        assert_eq!(asked(&zipped), asked(&plain), "{benchmark}");
        assert!(
            files(benchmark, &zipped, false)
                .unwrap()
                .iter()
                .all(|file| file.place.is_some())
        );
        let found = check(benchmark, zipped).unwrap();
        assert_eq!(found.problems, [""; 0], "{benchmark}");
    }
}
