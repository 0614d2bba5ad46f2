//! DataOptim: the twenty public datasets from which Bunny's authors chose, in LLaVA's format
//! (`BAAI/DataOptim` on the Hugging Face hub; its README gives the counts).

use super::boxes::BoxSpace;

/// One dataset of DataOptim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dataset {
    /// Its name, as papers call it.
    pub name: &'static str,
    /// Its files below `data/`.
    pub files: &'static [&'static str],
    /// Distinct pictures.
    pub images: u64,
    /// Questions with their answers; a file may hold several of one picture in one record.
    pub samples: u64,
    /// Where its pictures lie below the image folder; `None` where DataOptim's README does not say.
    pub image_root: Option<&'static str>,
    /// How its questions are put.
    pub prompts: Prompts,
    /// What its boxes are relative to; `None` where it has none.
    pub boxes: Option<BoxSpace>,
}

/// How the questions of a dataset are put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompts {
    /// One of five requests for a short caption, drawn by chance.
    Caption,
    /// The question, then a request for a short answer.
    ShortAnswer,
    /// A request to choose an option, then the question.
    Choice,
    /// One of the templates of M3IT, drawn by chance.
    M3it,
    /// One of the templates of Shikra, drawn by chance.
    Shikra,
    /// As they were generated.
    Kept,
}

impl Prompts {
    /// The prompt for a question, where it is not drawn from templates.
    pub fn apply(self, question: &str) -> Option<String> {
        match self {
            Self::ShortAnswer => Some(format!(
                "{question} Answer the question directly with a short sentence or phrase."
            )),
            Self::Choice => Some(format!(
                "Choose the correct option for the following question: {question}"
            )),
            Self::Kept => Some(question.to_owned()),
            Self::Caption | Self::M3it | Self::Shikra => None,
        }
    }
}

/// What [`Prompts::Caption`] draws from.
pub const CAPTION_PROMPTS: [&str; 5] = [
    "Describe the image as simply as possible with a sentence or phrase.",
    "Give a brief summary of what you see.",
    "Provide a short description of the image.",
    "Write a short description for the image.",
    "Briefly describe the content of the image.",
];

const fn dataset(
    name: &'static str,
    files: &'static [&'static str],
    images: u64,
    samples: u64,
    image_root: Option<&'static str>,
    prompts: Prompts,
    boxes: Option<BoxSpace>,
) -> Dataset {
    Dataset {
        name,
        files,
        images,
        samples,
        image_root,
        prompts,
        boxes,
    }
}

/// The twenty. (`filckr30k` is how the folder is spelled there.)
#[rustfmt::skip]
pub const DATASETS: [Dataset; 20] = {
    use BoxSpace::{Original, Padded};
    use Prompts::{Caption, Choice, Kept, M3it, Shikra, ShortAnswer};
    [
        dataset("COCO", &["coco"], 82_783, 414_113, Some("coco"), Caption, None),
        dataset("Flickr30K", &["flickr30k"], 29_000, 145_000, Some("filckr30k"), Caption, None),
        dataset("TextCaps", &["textcaps"], 21_953, 109_765, Some("open_images"), Caption, None),
        dataset("TextOCR-GPT4V", &["textocrgpt4v"], 25_114, 25_114, None, Kept, None),
        dataset("VQAv2", &["vqav2"], 82_783, 443_757, Some("coco"), ShortAnswer, None),
        dataset("OKVQA", &["okvqa"], 8_998, 9_009, Some("coco"), ShortAnswer, None),
        dataset("OCRVQA", &["ocrvqa"], 166_041, 801_673, Some("ocrvqa"), ShortAnswer, None),
        dataset("GQA", &["gqa"], 72_140, 943_000, Some("visual_genome"), ShortAnswer, None),
        dataset("TextVQA", &["textvqa"], 21_953, 34_602, Some("open_images"), ShortAnswer, None),
        dataset("A-OKVQA", &["aokvqa"], 16_540, 17_056, Some("coco"), Choice, None),
        dataset("ScienceQA", &["scienceqa"], 6_218, 6_218, Some("scienceqa"), M3it, None),
        dataset("VGQA", &["vgqa"], 99_280, 1_445_322, Some("visual_genome"), ShortAnswer, None),
        dataset("DocVQA", &["docvqa"], 10_194, 39_463, None, ShortAnswer, None),
        dataset("DVQA", &["dvqa"], 200_000, 2_325_316, None, ShortAnswer, None),
        dataset("RefCOCO", &["ref3rec", "ref3reg"], 24_407, 287_604, Some("coco"), Shikra, Some(Original)),
        dataset("Shikra-RD", &["shikra"], 883, 5_922, Some("filckr30k"), Shikra, Some(Original)),
        dataset("LLaVA-Instruct-150K", &["llava"], 81_479, 157_712, Some("coco"), Kept, None),
        dataset("SVIT", &["svit"], 108_076, 2_992_799, Some("visual_genome"), Kept, Some(Original)),
        dataset("ShareGPT4V", &["sharegpt4v"], 87_296, 102_025, None, Kept, None),
        dataset("LLaVA-v1.5", &["llava_v1.5"], 291_684, 665_298, None, Kept, Some(Padded)),
    ]
};

/// The dataset that a file belongs to, and the file's path: `"gqa"` → GQA, `data/gqa.json`.
pub fn find(file: &str) -> Option<(&'static Dataset, String)> {
    let dataset = DATASETS
        .iter()
        .find(|dataset| dataset.files.contains(&file))?;
    Some((dataset, format!("data/{file}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_has_what_the_readme_totals() {
        // Twenty datasets in 21 files. An earlier README of DataOptim totals its fourteen at 6.37
        // million samples; the latest says 11.2 million of all twenty, where its rows add up to 10.97.
        assert_eq!(
            DATASETS
                .iter()
                .map(|dataset| dataset.files.len())
                .sum::<usize>(),
            21
        );
        let later = [
            "TextOCR-GPT4V",
            "VGQA",
            "DocVQA",
            "DVQA",
            "ShareGPT4V",
            "LLaVA-v1.5",
        ];
        let early: Vec<_> = DATASETS
            .iter()
            .filter(|dataset| !later.contains(&dataset.name))
            .collect();
        assert_eq!(early.len(), 14);
        let samples: u64 = early.iter().map(|dataset| dataset.samples).sum();
        assert_eq!((samples + 5_000) / 10_000, 637);
        assert_eq!(find("ref3reg").unwrap().0.name, "RefCOCO");
        assert_eq!(find("ref3reg").unwrap().1, "data/ref3reg.json");
        assert!(find("imagenet").is_none());
    }
}
