//! DataOptim: the twenty public datasets from which Bunny's authors chose, in LLaVA's format
//! (`BAAI/DataOptim` on the Hugging Face hub).

/// One dataset of DataOptim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dataset {
    /// Its name, as papers call it.
    pub name: &'static str,
    /// Its files below `data/`.
    pub files: &'static [&'static str],
}

const fn dataset(name: &'static str, files: &'static [&'static str]) -> Dataset {
    Dataset { name, files }
}

/// The twenty.
pub const DATASETS: [Dataset; 20] = [
    dataset("COCO", &["coco"]),
    dataset("Flickr30K", &["flickr30k"]),
    dataset("TextCaps", &["textcaps"]),
    dataset("TextOCR-GPT4V", &["textocrgpt4v"]),
    dataset("VQAv2", &["vqav2"]),
    dataset("OKVQA", &["okvqa"]),
    dataset("OCRVQA", &["ocrvqa"]),
    dataset("GQA", &["gqa"]),
    dataset("TextVQA", &["textvqa"]),
    dataset("A-OKVQA", &["aokvqa"]),
    dataset("ScienceQA", &["scienceqa"]),
    dataset("VGQA", &["vgqa"]),
    dataset("DocVQA", &["docvqa"]),
    dataset("DVQA", &["dvqa"]),
    dataset("RefCOCO", &["ref3rec", "ref3reg"]),
    dataset("Shikra-RD", &["shikra"]),
    dataset("LLaVA-Instruct-150K", &["llava"]),
    dataset("SVIT", &["svit"]),
    dataset("ShareGPT4V", &["sharegpt4v"]),
    dataset("LLaVA-v1.5", &["llava_v1.5"]),
];

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
    fn a_file_is_found_by_its_name() {
        let (dataset, path) = find("ref3reg").unwrap();
        assert_eq!((dataset.name, &*path), ("RefCOCO", "data/ref3reg.json"));
        assert!(find("imagenet").is_none());
        // Twenty datasets in 21 files.
        let files = DATASETS.iter().flat_map(|dataset| dataset.files);
        assert_eq!(files.count(), 21);
    }
}
