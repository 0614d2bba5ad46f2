//! "Did you mean": the known key nearest to an unknown one.

use bunny_base::nearest;

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into a message with the nearest one.
pub(super) fn suggest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let known = message.starts_with("unknown field") || message.starts_with("unknown variant");
    let (true, Some(unknown)) = (known, quoted.next()) else {
        return message.to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    match nearest(unknown, known.iter().copied()) {
        Some(nearest) => format!("unknown key `{unknown}`; the nearest known one is `{nearest}`"),
        None if known.is_empty() => message.to_owned(),
        None => format!(
            "unknown key `{unknown}`; known are `{}`",
            known.join("`, `")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_with_the_nearest_or_with_all_there_are() {
        let said = |unknown: &str| {
            suggest(&format!(
                "unknown field `{unknown}`, expected one of `name`, `take`, `repeat`"
            ))
        };
        assert_eq!(
            said("repaet"),
            "unknown key `repaet`; the nearest known one is `repeat`"
        );
        assert_eq!(
            said("sample"),
            "unknown key `sample`; known are `name`, `take`, `repeat`"
        );
        assert_eq!(suggest("missing field `name`"), "missing field `name`");
    }
}
