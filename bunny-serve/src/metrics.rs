//! What `/metrics` tells, in Prometheus' text form 0.0.4, with the stems that dashboards ask for.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bunny_core::generate::Timings;

/// Upper ends of the histograms' buckets, in seconds.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

/// Counters of a server since its start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    running: AtomicUsize,
    waiting: AtomicUsize,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    rejected: AtomicU64,
    ends: Mutex<BTreeMap<&'static str, u64>>,
    first_token: Histogram,
    next_token: Histogram,
    whole: Histogram,
    prefill: Histogram,
}

/// How often a time lay within each bucket.
#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    microseconds: AtomicU64,
}

impl Histogram {
    fn add(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (end, count) in BUCKETS.iter().zip(&self.counts) {
            if seconds <= *end {
                count.fetch_add(1, Relaxed);
            }
        }
        self.count.fetch_add(1, Relaxed);
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP bunny:{name} {help}\n# TYPE bunny:{name} histogram");
        for (end, count) in BUCKETS.iter().zip(&self.counts) {
            let _ = writeln!(out, "bunny:{name}_bucket{{le=\"{end}\"}} {}", count.load(Relaxed));
        }
        let count = self.count.load(Relaxed);
        let sum = self.microseconds.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(
            out,
            "bunny:{name}_bucket{{le=\"+Inf\"}} {count}\nbunny:{name}_sum {sum}\nbunny:{name}_count {count}"
        );
    }
}

impl Metrics {
    pub(crate) fn queue(&self, running: usize, waiting: usize) {
        self.running.store(running, Relaxed);
        self.waiting.store(waiting, Relaxed);
    }

    pub(crate) fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    pub(crate) fn first_token(&self, since_asked: Duration) {
        self.first_token.add(since_asked);
    }

    pub(crate) fn next_token(&self, since_last: Duration) {
        self.next_token.add(since_last);
    }

    pub(crate) fn finished(
        &self,
        reason: &'static str,
        timings: &Timings,
        tokens: usize,
        whole: Duration,
    ) {
        let prompt = timings.prefill_positions + timings.known_positions;
        self.prompt_tokens.fetch_add(prompt as u64, Relaxed);
        self.cached_tokens.fetch_add(timings.known_positions as u64, Relaxed);
        self.generated_tokens.fetch_add(tokens as u64, Relaxed);
        self.prefill.add(timings.prefill);
        self.whole.add(whole);
        self.ended(reason);
    }

    pub(crate) fn ended(&self, reason: &'static str) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        *ends.entry(reason).or_default() += 1;
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let mut plain = |kind: &str, name: &str, help: &str, value: u64| {
            let _ = writeln!(
                out,
                "# HELP bunny:{name} {help}\n# TYPE bunny:{name} {kind}\nbunny:{name} {value}"
            );
        };
        plain("gauge", "num_requests_running", "Sequences being answered.", self.running.load(Relaxed) as u64);
        plain("gauge", "num_requests_waiting", "Sequences that wait for a slot.", self.waiting.load(Relaxed) as u64);
        plain("counter", "prompt_tokens_total", "Positions of prompts, known ones included.", self.prompt_tokens.load(Relaxed));
        plain("counter", "prefix_cache_hits_total", "Positions of prompts that were known.", self.cached_tokens.load(Relaxed));
        plain("counter", "generation_tokens_total", "Tokens of answers.", self.generated_tokens.load(Relaxed));
        plain("counter", "admission_rejections_total", "Requests refused since too many waited.", self.rejected.load(Relaxed));
        let _ = writeln!(
            out,
            "# HELP bunny:request_success_total Sequences that ended.\n# TYPE bunny:request_success_total counter"
        );
        for (reason, count) in &*self.ends.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = writeln!(out, "bunny:request_success_total{{finished_reason=\"{reason}\"}} {count}");
        }
        self.first_token.write(&mut out, "time_to_first_token_seconds", "From the request to its first token.");
        self.next_token.write(&mut out, "inter_token_latency_seconds", "From one token to the next.");
        self.prefill.write(&mut out, "request_prefill_time_seconds", "Reading a prompt.");
        self.whole.write(&mut out, "e2e_request_latency_seconds", "From the request to the end of its answer.");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_all_that_is_not_longer() {
        let metrics = Metrics::default();
        metrics.first_token(Duration::from_millis(3));
        metrics.first_token(Duration::from_secs(90));
        metrics.ended("stop");
        let text = metrics.text();
        for line in [
            "bunny:time_to_first_token_seconds_bucket{le=\"0.0025\"} 0",
            "bunny:time_to_first_token_seconds_bucket{le=\"0.005\"} 1",
            "bunny:time_to_first_token_seconds_bucket{le=\"60\"} 1",
            "bunny:time_to_first_token_seconds_bucket{le=\"+Inf\"} 2",
            "bunny:time_to_first_token_seconds_sum 90.003",
            "bunny:request_success_total{finished_reason=\"stop\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
