//! Text that may still turn out to be a stop text is held back.

/// Passes text on as it comes, up to the first of the stop texts.
#[derive(Debug)]
pub(super) struct StopFilter {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopFilter {
    /// A filter for some texts, of which empty ones stop nothing.
    pub(super) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        Self {
            stops: stops.cloned().collect(),
            held: String::new(),
            stopped: false,
        }
    }

    /// Takes text, and gives what can no longer belong to a stop text.
    pub(super) fn push(&mut self, text: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        let found = self.stops.iter();
        if let Some(at) = found.filter_map(|stop| self.held.find(stop)).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let open = self.stops.iter().map(|stop| overlap(&self.held, stop));
        let open = open.max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - open);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop text came.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// What was held back, now that no more text comes.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The longest end of `text` that is a start of `stop`, in bytes.
fn overlap(text: &str, stop: &str) -> usize {
    (1..stop.len().min(text.len() + 1))
        .rev()
        .find(|&len| stop.is_char_boundary(len) && text.ends_with(&stop[..len]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut filter = StopFilter::new(&stops);
        let mut text: String = pieces.iter().map(|piece| filter.push(piece)).collect();
        text += &filter.finish();
        (text, filter.stopped())
    }

    #[test]
    fn a_stop_text_ends_the_answer_however_it_is_cut() {
        for pieces in [
            &["one END two"][..],
            &["one E", "ND two"],
            &["one ", "E", "N", "D", " two"],
        ] {
            assert_eq!(filtered(&["END"], pieces), ("one ".into(), true));
        }
    }

    #[test]
    fn what_only_looked_like_a_stop_text_is_not_lost() {
        assert_eq!(
            filtered(&["END"], &["one E", "N", "C"]),
            ("one ENC".into(), false)
        );
        assert_eq!(filtered(&["END"], &["one EN"]), ("one EN".into(), false));
    }

    #[test]
    fn the_earliest_of_several_stops_counts() {
        assert_eq!(
            filtered(&["two", "one"], &["zero one two"]),
            ("zero ".into(), true)
        );
    }

    #[test]
    fn characters_of_many_bytes_are_never_cut() {
        assert_eq!(
            filtered(&["é!"], &["caf", "é", "?"]),
            ("café?".into(), false)
        );
    }
}
