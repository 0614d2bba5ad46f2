//! POPE: is an object in the picture? Three ways to choose the objects asked for.

use serde::Deserialize;

use super::loader;
use crate::error::{EvalError, Result};
use crate::folder::Folder;
use crate::python;
use crate::question::Question;

pub(crate) const QUESTIONS: &str = "bunny_pope_test.jsonl";
const PICTURES: &str = "val2014/";
/// The categories, in the order of the question file.
pub(crate) const CATEGORIES: [&str; 3] = ["adversarial", "random", "popular"];

pub(crate) fn questions(folder: &Folder) -> Result<Vec<Question>> {
    loader::questions(folder, QUESTIONS, PICTURES, super::REFERENCE_FILES)
}

#[derive(Deserialize)]
struct Label {
    image: String,
    text: String,
    label: String,
}

/// Whether "no" is the right answer, of every question, in the question file's order.
///
/// The files of labels must be those that the questions were made from: an answer meets its label
/// by place alone. They are compared row by row, but for a typo that later files mend.
pub(crate) fn is_no(folder: &Folder, questions: &[Question]) -> Result<Vec<bool>> {
    let mut gold = vec![false; questions.len()];
    for category in CATEGORIES {
        let name = label_file(folder, category)?;
        let text = loader::text_of(folder, &name, LABELS)?;
        let asked: Vec<usize> = (0..questions.len())
            .filter(|at| questions[*at].category == category)
            .collect();
        let mut lines = 0;
        for (at, line) in python::lines(&text).enumerate() {
            lines += 1;
            let label: Label = serde_json::from_str(line).map_err(|source| EvalError::Json {
                path: folder.root_of(&name),
                line: Some(at + 1),
                expected: "a label (image, text, label)",
                source,
            })?;
            let Some(question) = asked.get(at) else {
                continue;
            };
            if !is_of(&questions[*question], &label) {
                let what = format!(
                    "its label is of \"{}\" about {}, and question_id {} is another: take the \
                     files of AoiDragon/POPE at commit e3e39262",
                    label.text, label.image, questions[*question].id
                );
                return Err(EvalError::content(folder.place(&name)?, Some(at + 1), what));
            }
            gold[*question] = label.label == "no";
        }
        if lines != asked.len() {
            let what = format!(
                "{lines} labels for {} {category} questions: take the files of AoiDragon/POPE at \
                 commit e3e39262",
                asked.len()
            );
            return Err(EvalError::content(folder.place(&name)?, None, what));
        }
    }
    Ok(gold)
}

const LABELS: &str =
    "take output/coco of github.com/AoiDragon/POPE at commit e3e39262, not the newest";

fn label_file(folder: &Folder, category: &str) -> Result<String> {
    let name = format!("coco/coco_pope_{category}.json");
    let alone = format!("coco_pope_{category}.json");
    Ok(if !folder.has(&name)? && folder.has(&alone)? {
        alone
    } else {
        name
    })
}

fn is_of(question: &Question, label: &Label) -> bool {
    let mended = |text: &str| text.replace("imange", "image");
    let asked = question.text.lines().next().unwrap_or_default();
    let same_picture = question
        .pictures
        .first()
        .is_some_and(|picture| picture.name == label.image);
    same_picture && mended(asked) == mended(label.text.lines().next().unwrap_or_default())
}
