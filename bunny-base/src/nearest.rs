//! "Did you mean": the known name nearest to an unknown one.

/// The one of `known` that `unknown` was most likely meant to be: the fewest letters to add, drop or
/// replace (Levenshtein's distance), the first of those on a tie. `None` where that would be more than
/// two letters in five: nothing is near then.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known = known.into_iter();
    let with_distance = known.map(|name| (strsim::levenshtein(unknown, name), name));
    let (distance, name) = with_distance.min_by_key(|(distance, _)| *distance)?;
    let longest = unknown.chars().count().max(name.chars().count());
    (5 * distance <= 2 * longest).then_some(name)
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
        assert_eq!(nearest("quantization_bit", known), None);
    }
}
