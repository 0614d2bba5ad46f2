//! What `/metrics` tells, in Prometheus' text form 0.0.4, with the stems that dashboards ask for.

mod histogram;

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bunny_core::generate::{CacheUse, FinishReason, PictureUse, Sequence, Timings};

use histogram::{Histogram, SECONDS, TOKENS};

/// Counters of a server since its start.
#[derive(Debug)]
pub(crate) struct Metrics {
    running: AtomicUsize,
    waiting: AtomicUsize,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    rejected: AtomicU64,
    cache: Mutex<CacheUse>,
    pictures: Mutex<PictureUse>,
    /// How often sequences ended, by the reason, as vLLM calls them.
    ends: Mutex<BTreeMap<&'static str, u64>>,
    first_token: Histogram,
    next_token: Histogram,
    each_token: Histogram,
    queue: Histogram,
    prefill: Histogram,
    decode: Histogram,
    whole: Histogram,
    prompt_lengths: Histogram,
    answer_lengths: Histogram,
    step_tokens: Histogram,
}

/// Numbers are whole whenever somebody panics.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(SECONDS);
        let tokens = || Histogram::new(TOKENS);
        Self {
            running: AtomicUsize::default(),
            waiting: AtomicUsize::default(),
            prompt_tokens: AtomicU64::default(),
            cached_tokens: AtomicU64::default(),
            generated_tokens: AtomicU64::default(),
            rejected: AtomicU64::default(),
            cache: Mutex::default(),
            pictures: Mutex::default(),
            ends: Mutex::default(),
            first_token: seconds(),
            next_token: seconds(),
            each_token: seconds(),
            queue: seconds(),
            prefill: seconds(),
            decode: seconds(),
            whole: seconds(),
            prompt_lengths: tokens(),
            answer_lengths: tokens(),
            step_tokens: tokens(),
        }
    }
}

impl Metrics {
    /// Notes how many sequences are being answered, and how many wait.
    pub(crate) fn queue(&self, running: usize, waiting: usize) {
        self.running.store(running, Relaxed);
        self.waiting.store(waiting, Relaxed);
    }

    /// Notes what keys and values take.
    pub(crate) fn cache(&self, cache: CacheUse) {
        *locked(&self.cache) = cache;
    }

    /// Notes how many pictures were shown.
    pub(crate) fn pictures(&self, pictures: PictureUse) {
        *locked(&self.pictures) = pictures;
    }

    /// Notes the tokens of a step: those of prompts that it read, and those that it chose.
    pub(crate) fn step(&self, tokens: usize) {
        self.step_tokens.add(tokens as f64);
    }

    /// Notes a request that was refused since too many waited.
    pub(crate) fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    pub(crate) fn first_token(&self, since_asked: Duration) {
        self.first_token.add(since_asked.as_secs_f64());
    }

    pub(crate) fn next_token(&self, since_last: Duration) {
        self.next_token.add(since_last.as_secs_f64());
    }

    /// Notes an answer that came to its end.
    pub(crate) fn finished(&self, sequence: &Sequence, timings: &Timings, whole: Duration) {
        let prompt = timings.prefill_positions + timings.known_positions;
        let answer = sequence.ids().len();
        let add = |counter: &AtomicU64, count: usize| counter.fetch_add(count as u64, Relaxed);
        add(&self.prompt_tokens, prompt);
        add(&self.cached_tokens, timings.known_positions);
        add(&self.generated_tokens, answer);
        self.prompt_lengths.add(prompt as f64);
        self.answer_lengths.add(answer as f64);
        let busy = timings.vision + timings.prefill + timings.decode;
        self.queue.add(whole.saturating_sub(busy).as_secs_f64());
        self.prefill.add(timings.prefill.as_secs_f64());
        self.decode.add(timings.decode.as_secs_f64());
        self.whole.add(whole.as_secs_f64());
        if answer > 1 {
            let each = timings.decode.as_secs_f64() / (answer - 1) as f64;
            self.each_token.add(each);
        }
        self.ended(match sequence.finish() {
            None | Some(FinishReason::Length) => "length",
            Some(_) => "stop",
        });
    }

    pub(crate) fn ended(&self, reason: &'static str) {
        let mut ends = locked(&self.ends);
        *ends.entry(reason).or_default() += 1;
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self, model: &str) -> String {
        let escaped = model.replace('\\', "\\\\").replace('"', "\\\"");
        let labels = format!("model_name=\"{}\"", escaped.replace('\n', "\\n"));
        let mut out = String::new();
        // Writing to a String cannot fail.
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(
                out,
                "# HELP bunny:{name} {help}\n# TYPE bunny:{name} {kind}"
            );
        };
        let count = |of: &AtomicU64| of.load(Relaxed);
        let (cache, pictures) = (*locked(&self.cache), *locked(&self.pictures));
        let usage = cache.running as f64 / cache.allowed.max(1) as f64;
        let name = "kv_cache_usage_perc";
        head(
            &mut out,
            name,
            "gauge",
            "The share of their memory that answers under way hold, 0 to 1.",
        );
        let _ = writeln!(out, "bunny:{name}{{{labels}}} {usage}");
        for (name, kind, value, help) in [
            (
                "num_requests_running",
                "gauge",
                self.running.load(Relaxed) as u64,
                "Sequences being answered.",
            ),
            (
                "num_requests_waiting",
                "gauge",
                self.waiting.load(Relaxed) as u64,
                "Sequences that wait for a slot.",
            ),
            (
                "prompt_tokens_total",
                "counter",
                count(&self.prompt_tokens),
                "Positions of prompts, known ones included.",
            ),
            (
                "generation_tokens_total",
                "counter",
                count(&self.generated_tokens),
                "Tokens of answers.",
            ),
            (
                "prefix_cache_queries_total",
                "counter",
                count(&self.prompt_tokens),
                "Positions that were looked for among known ones.",
            ),
            (
                "prefix_cache_hits_total",
                "counter",
                count(&self.cached_tokens),
                "Positions that were known.",
            ),
            (
                "kv_cache_running_bytes",
                "gauge",
                cache.running,
                "Keys and values of answers under way.",
            ),
            (
                "kv_cache_held_bytes",
                "gauge",
                cache.held,
                "Those, and what is kept for prompts that begin alike.",
            ),
            (
                "kv_cache_allowed_bytes",
                "gauge",
                cache.allowed,
                "What keys and values may take.",
            ),
            (
                "mm_cache_queries_total",
                "counter",
                pictures.shown,
                "Pictures of prompts.",
            ),
            (
                "mm_cache_hits_total",
                "counter",
                pictures.known,
                "Pictures that were known.",
            ),
            // Whoever has begun has all the memory that it may come to need.
            (
                "num_preemptions_total",
                "counter",
                0,
                "Answers broken off for others.",
            ),
            (
                "admission_rejections_total",
                "counter",
                count(&self.rejected),
                "Requests refused since too many waited.",
            ),
        ] {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "bunny:{name}{{{labels}}} {value}");
        }
        head(
            &mut out,
            "request_success_total",
            "counter",
            "Sequences that ended.",
        );
        for (reason, count) in &*locked(&self.ends) {
            let _ = writeln!(
                out,
                "bunny:request_success_total{{{labels},finished_reason=\"{reason}\"}} {count}"
            );
        }
        for (name, histogram, help) in [
            (
                "time_to_first_token_seconds",
                &self.first_token,
                "From the request to its first token.",
            ),
            (
                "inter_token_latency_seconds",
                &self.next_token,
                "From one token to the next.",
            ),
            (
                "request_time_per_output_token_seconds",
                &self.each_token,
                "Of an answer's tokens behind the first, the mean.",
            ),
            (
                "request_queue_time_seconds",
                &self.queue,
                "Waiting for a slot.",
            ),
            (
                "request_prefill_time_seconds",
                &self.prefill,
                "Reading a prompt.",
            ),
            (
                "request_decode_time_seconds",
                &self.decode,
                "From the first token to the last.",
            ),
            (
                "e2e_request_latency_seconds",
                &self.whole,
                "From the request to the end of its answer.",
            ),
            (
                "request_prompt_tokens",
                &self.prompt_lengths,
                "Positions of a prompt.",
            ),
            (
                "request_generation_tokens",
                &self.answer_lengths,
                "Tokens of an answer.",
            ),
            (
                "iteration_tokens_total",
                &self.step_tokens,
                "Of a step: positions of prompts that it read, and tokens that it chose.",
            ),
        ] {
            head(&mut out, name, "histogram", help);
            histogram.write(&mut out, &format!("bunny:{name}"), &labels);
        }
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
        let text = metrics.text("a\"b");
        let name = "bunny:time_to_first_token_seconds";
        let label = "model_name=\"a\\\"b\"";
        for line in [
            format!("{name}_bucket{{{label},le=\"0.0025\"}} 0"),
            format!("{name}_bucket{{{label},le=\"0.005\"}} 1"),
            format!("{name}_bucket{{{label},le=\"60\"}} 1"),
            format!("{name}_bucket{{{label},le=\"+Inf\"}} 2"),
            format!("{name}_sum{{{label}}} 90.003"),
            format!("bunny:request_success_total{{{label},finished_reason=\"stop\"}} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
