//! "Did you mean": the known name nearest to an unknown one.

/// The one of `known` that `unknown` was most likely meant to be: the fewest letters to add, drop or
/// replace (Levenshtein's distance), the first of those on a tie.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .min_by_key(|name| strsim::levenshtein(unknown, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_needs_the_fewest_changes() {
        let known = ["learning_rate", "lora_r", "seed"];
        assert_eq!(nearest("learningrate", known), Some("learning_rate"));
        assert_eq!(nearest("lora_rank", known), Some("lora_r"));
        assert_eq!(nearest("x", []), None);
    }
}
