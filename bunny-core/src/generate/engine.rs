//! Many answers at once: sequences join and leave between steps, each as long as it is.
//!
//! An [`Engine`] has slots. A step reads some of the prompts that are new, and one token of every
//! answer that is under way; whoever is done leaves its slot, and who waits takes it:
//!
//! ```text
//! step       1        2        3        4        5
//! slot 0   prompt   token    token    token    prompt …      (a third one)
//! slot 1            prompt…  …prompt  token    token         (a long prompt, in chunks)
//! ```
//!
//! What a slot has read stays there until it is taken. A prompt that begins as another one did, with the
//! same system text and picture, takes what is known of that: blocks of the cache are shared, not
//! copied. Pictures are known by their pixels.
//!
//! No sequence's scores depend on what stands beside it: in f32 on a CPU they are the same bits alone
//! and in any company, in chunks of any size, with a shared beginning and without.

mod memory;
mod slot;
#[cfg(all(test, feature = "flex"))]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bunny_base::clock::Instant;
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};

pub use self::memory::CacheUse;
use self::{
    memory::Bound,
    slot::{Running, Slot, ToScore, Work},
};
use super::{
    Event, Picture, Prompt, Sequence, TokenScore,
    picture::PictureCache,
    prompt::Place,
    read::{read, wait},
};
use crate::{
    Bunny, Error,
    input::tokenizer::Token,
    nn::{KvCache, Mode, Phase},
};

/// How an engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Sequences that are answered at once; others wait.
    pub slots: usize,
    /// Positions of prompts that a step reads: the fewer, the less a long prompt holds up answers that
    /// are under way.
    pub chunk: usize,
    /// Positions that a prompt and its answer may have; the model's unless given.
    pub positions: Option<usize>,
    /// Pictures whose embeddings are kept.
    pub pictures: usize,
    /// What a prompt may take from what was read before.
    pub reuse: Reuse,
    /// Bytes that keys and values may take; as many as the slots need unless given. What does not fit
    /// beside what is under way waits.
    pub cache_bytes: Option<u64>,
    /// The most tokens that are drafted at a time, from what the conversation has said before; 0 for
    /// none. In f32 on a CPU no answer changes by it, to the bit.
    pub draft: usize,
}

/// What a prompt may take from what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reuse {
    /// Prompts alone. Rows of answers are summed in another order: with none of them, scores hang on
    /// nothing that was answered before.
    Prompts,
    /// Answers too: in a conversation the next prompt begins with all that was said.
    Everything,
}

impl Default for EngineOptions {
    /// Eight at once, 512 positions a step.
    fn default() -> Self {
        Self {
            slots: 8,
            chunk: 512,
            positions: None,
            pictures: 16,
            reuse: Reuse::Prompts,
            cache_bytes: None,
            draft: 0,
        }
    }
}

/// The number of a sequence in its engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(u64);

/// What became of a sequence in a step.
#[derive(Debug)]
#[non_exhaustive]
pub enum Update {
    /// It has one more token.
    Token(Event),
    /// It has ended; its last token came before.
    Finished(Box<Finished>),
    /// Its tokens are scored, and it has ended.
    Scored(Vec<TokenScore>),
    /// It cannot go on, and has ended.
    Failed(Error),
}

/// An answer that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The answer.
    pub sequence: Sequence,
    /// Where the time went.
    pub timings: Timings,
}

/// Pictures of prompts since an engine began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PictureUse {
    /// That were shown.
    pub shown: u64,
    /// Of those, whose embeddings or keys and values were known.
    pub known: u64,
}

/// Where the time of an answer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// Tower and projector.
    pub vision: Duration,
    /// Reading the prompt, up to the first token's scores.
    pub prefill: Duration,
    /// Positions read in that time; those that were known are not among them.
    pub prefill_positions: usize,
    /// Positions of the prompt that were known.
    pub known_positions: usize,
    /// All tokens after the first.
    pub decode: Duration,
    /// Tokens chosen in that time.
    pub decode_tokens: usize,
}

/// A model that answers several prompts at once.
#[derive(Debug)]
pub struct Engine<B: Backend> {
    model: Arc<Bunny<B>>,
    device: B::Device,
    options: EngineOptions,
    cache: KvCache<B>,
    bound: Bound,
    slots: Vec<Slot<B>>,
    /// With what stands at their places.
    waiting: VecDeque<(Vec<Place>, Running<B>)>,
    pictures: PictureCache<B>,
    picture_use: PictureUse,
    prompt_positions_read: u64,
    admitted: u64,
}

/// Hidden states whose scores are wanted, `[rows, hidden]` each.
#[derive(Debug)]
struct Wanted<B: Backend> {
    /// Of the last positions of sequences whose next tokens are to be chosen.
    next: Vec<Next>,
    next_hidden: Vec<Tensor<B, 2>>,
    /// Of the positions before tokens that are to be scored: their slots, and which of their tokens.
    scored: Vec<(usize, usize)>,
    scored_hidden: Vec<Tensor<B, 2>>,
}

/// A row by which a slot's next token is to be chosen.
#[derive(Debug, Clone, Copy)]
struct Next {
    slot: usize,
    /// The token that was read there before it was chosen, and its position: the row is of use where
    /// that token is chosen in the end.
    draft: Option<(u32, usize)>,
}

/// What a pass has read of the sequence of a slot.
#[derive(Debug, Clone, Copy)]
struct Passed {
    slot: usize,
    count: usize,
}

impl<B: Backend> Engine<B> {
    /// An engine of which nothing was asked.
    ///
    /// # Panics
    /// When it has no slot, or reads nothing in a step.
    pub fn new(model: Arc<Bunny<B>>, options: EngineOptions, device: B::Device) -> Self {
        assert!(options.slots > 0, "an engine has a slot");
        assert!(options.chunk > 0, "an engine reads prompts");
        let cache = model.new_cache(&device);
        Self {
            bound: Bound::new(options.cache_bytes, &cache),
            cache,
            model,
            device,
            slots: std::iter::repeat_with(Slot::default)
                .take(options.slots)
                .collect(),
            waiting: VecDeque::new(),
            pictures: PictureCache::new(options.pictures),
            picture_use: PictureUse::default(),
            prompt_positions_read: 0,
            admitted: 0,
            options,
        }
    }

    /// Takes a prompt and the answer to be; it begins when a slot is free.
    ///
    /// Where the model has fewer positions left than the answer may have tokens, or keys and values may
    /// take fewer, those limit it.
    ///
    /// # Errors
    /// When the prompt is empty, a picture is missing, or the prompt leaves no room for an answer.
    pub fn admit(
        &mut self,
        prompt: Prompt<B>,
        mut sequence: Sequence,
    ) -> Result<SequenceId, Error> {
        let least = usize::from(sequence.finish().is_none());
        let left = self.room(&prompt, least)?;
        sequence.limit(left);
        self.enqueue(prompt, Work::Answer(Box::new(sequence)))
    }

    /// Takes a text whose tokens at some places are to be scored, each given all before it, with so many
    /// of the likeliest beside it.
    ///
    /// # Errors
    /// When the text is empty, a picture is missing, or the text has more positions than the model, or
    /// than keys and values may take.
    pub fn admit_scoring(
        &mut self,
        prompt: Prompt<B>,
        places: &[usize],
        alternatives: usize,
    ) -> Result<SequenceId, Error> {
        self.room(&prompt, 0)?;
        let token = |&place: &usize| match prompt.tokens.get(place) {
            // A token is foretold by the position before its own.
            Some(Token::Text(id)) if place > 0 => Some(ToScore {
                place,
                id: *id,
                row: self.model.positions(&prompt.tokens[..place]) - 1,
            }),
            _ => None,
        };
        let mut tokens: Vec<ToScore> = places.iter().filter_map(token).collect();
        tokens.sort_unstable_by_key(|token| token.place);
        let work = Work::Score {
            tokens,
            alternatives,
            found: Vec::new(),
        };
        self.enqueue(prompt, work)
    }

    /// The tokens that a prompt leaves for its answer.
    ///
    /// # Errors
    /// When those are fewer than `least`, or the prompt alone is more than may be held.
    fn room(&self, prompt: &Prompt<B>, least: usize) -> Result<usize, Error> {
        let positions = self.model.positions(&prompt.tokens);
        let context = self.longest();
        match context.checked_sub(positions) {
            Some(left) if left >= least => Ok(left.min(self.bound.left(positions)?)),
            _ => Err(Error::TooLong {
                prompt: positions,
                pictures: prompt.slots().count() * self.model.config().vision.tokens(),
                context,
            }),
        }
    }

    fn enqueue(&mut self, prompt: Prompt<B>, work: Work) -> Result<SequenceId, Error> {
        let places = prompt.places()?;
        let positions = self.model.positions(&prompt.tokens);
        self.admitted += 1;
        let id = SequenceId(self.admitted);
        let running = Running::new(id, prompt, positions, work);
        self.waiting.push_back((places, running));
        Ok(id)
    }

    /// Ends a sequence before it has ended by itself; what there is of its answer comes back. `None`
    /// where it has ended already, or was to be scored.
    ///
    /// # Errors
    /// When a token is not the tokenizer's.
    pub fn cancel(&mut self, id: SequenceId) -> Result<Option<Finished>, Error> {
        let waits = |(_, running): &(_, Running<B>)| running.id == id;
        let running = match self.waiting.iter().position(waits) {
            Some(at) => self.waiting.remove(at).map(|(_, running)| running),
            None => self.slots.iter_mut().find_map(|slot| slot.take(id)),
        };
        let mut finished = running.and_then(Running::finished);
        if let Some(finished) = &mut finished {
            finished.sequence.interrupt()?;
        }
        Ok(finished)
    }

    /// Ends all sequences; what was read stays.
    pub fn cancel_all(&mut self) {
        self.waiting.clear();
        for slot in &mut self.slots {
            slot.running = None;
        }
    }

    /// Ends all sequences, and forgets all that was read.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.slots.fill_with(Slot::default);
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running() == 0
    }

    /// Sequences that are being answered.
    pub fn running(&self) -> usize {
        let slots = self.slots.iter();
        slots.filter(|slot| slot.running.is_some()).count()
    }

    /// Sequences that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Positions that a prompt and its answer may have, and that keys and values of one may take.
    pub fn context(&self) -> usize {
        self.longest().min(self.bound.positions())
    }

    /// Positions that a prompt and its answer may have where there is memory.
    fn longest(&self) -> usize {
        let own = self.model.config().decoder.max_position_embeddings;
        self.options.positions.unwrap_or(own)
    }

    /// What is held of keys and values, and what may be.
    pub fn cache_use(&self) -> CacheUse {
        self.bound.usage(&self.slots, &self.cache, self.context())
    }

    /// How many pictures were shown, and were known.
    pub fn picture_use(&self) -> PictureUse {
        self.picture_use
    }

    /// Positions of prompts that were read since the engine began; those that were known are not among them.
    pub fn prompt_positions_read(&self) -> u64 {
        self.prompt_positions_read
    }

    /// The keys and values that are held.
    pub fn cache(&self) -> &KvCache<B> {
        &self.cache
    }

    /// Reads some of the prompts and one token of every answer under way, and tells what became of
    /// them. Waits for the device.
    pub fn step(&mut self) -> Vec<(SequenceId, Update)> {
        wait(self.step_async())
    }

    /// [`Engine::step`] without blocking a thread while the device computes. Dropped before it has
    /// ended, it takes no sequence further.
    pub async fn step_async(&mut self) -> Vec<(SequenceId, Update)> {
        self.start();
        let mut wanted = Wanted {
            next: Vec::new(),
            next_hidden: Vec::new(),
            scored: Vec::new(),
            scored_hidden: Vec::new(),
        };
        let mut passed = self.prefill(&mut wanted);
        let prefilled: usize = passed.iter().map(|passed| passed.count).sum();
        passed.extend(self.decode(&mut wanted));
        let Wanted { next, scored, .. } = &wanted;
        let (next, scored) = (next.clone(), scored.clone());
        // The one place where scores leave the device.
        let mut scores = match self.scores(wanted) {
            Some(scores) => read(scores).await.into_vec().expect("scores are f32"),
            None => Vec::new(),
        };

        self.prompt_positions_read += prefilled as u64;
        for Passed { slot, count } in passed {
            self.slots[slot].advance(count);
        }
        let mut updates = self.leave_at_once();
        let width = self.model.config().decoder.vocab_size;
        let mut rows = scores.chunks_exact_mut(width);
        for (Next { slot, draft }, row) in next.into_iter().zip(&mut rows) {
            if draft.is_some_and(|draft| !self.slots[slot].accept(draft)) {
                continue;
            }
            #[cfg(all(test, feature = "flex"))]
            tests::note(&self.slots[slot], row);
            self.slots[slot].choose(row, &mut updates);
        }
        for ((slot, token), row) in scored.into_iter().zip(&mut rows) {
            self.slots[slot].score(token, row, &mut updates);
        }
        updates
    }

    /// Sequences that wait, and of which nothing is wanted.
    fn leave_at_once(&mut self) -> Vec<(SequenceId, Update)> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (done, waiting) = waiting.partition(|(_, running)| running.is_done());
        self.waiting = waiting;
        let done: VecDeque<(Vec<Place>, Running<B>)> = done;
        done.into_iter()
            .map(|(_, running)| (running.id, running.update()))
            .collect()
    }

    /// Gives slots to sequences that wait.
    fn start(&mut self) {
        let mut at = 0;
        while let Some((places, running)) = self.waiting.get(at) {
            let seat = match running.is_done() {
                true => Seat::Later,
                false => self.seat(places, running),
            };
            match seat {
                Seat::None => return,
                Seat::Later => at += 1,
                Seat::At {
                    slot,
                    from,
                    shared,
                    given_up,
                } => {
                    let Some((places, running)) = self.waiting.remove(at) else {
                        return;
                    };
                    let known = self.model.positions(&running.prompt.tokens[..shared]);
                    let mut kv = self.slots[from].beginning(known, from == slot);
                    self.cache.trim(&mut kv);
                    for at in given_up {
                        self.slots[at] = Slot::default();
                    }
                    self.slots[slot] = Slot::taken(kv, places, running, shared);
                }
            }
        }
    }

    /// Where a sequence is best answered.
    fn seat(&self, places: &[Place], running: &Running<B>) -> Seat {
        let free = (0..self.slots.len()).filter(|at| self.slots[*at].running.is_none());
        let Some(oldest) = free.min_by_key(|at| self.slots[*at].taken) else {
            return Seat::None;
        };
        let per_picture = self.model.config().vision.tokens();
        let positions = |places: usize| self.model.positions(&running.prompt.tokens[..places]);
        let most = running.most_shared();
        let (mut from, mut shared, mut soon) = (oldest, 0, 0);
        for (at, slot) in self.slots.iter().enumerate() {
            let alike = slot.shares(places, self.options.reuse).min(most);
            let ready = alike.min(slot.places_read(per_picture));
            if ready > shared {
                (from, shared) = (at, ready);
            }
            if slot.is_reading() {
                soon = soon.max(alike);
            }
        }
        // Another one is about to read half of it or more.
        if 2 * positions(soon) >= positions(shared) * 2 + running.positions {
            return Seat::Later;
        }
        // A free slot is gone on with where little else would be lost.
        let donor = &self.slots[from];
        let goes_on = donor.running.is_none() && 2 * shared >= donor.text.len();
        let slot = if goes_on { from } else { oldest };
        let most = running.most_positions();
        let wanted = memory::Wanted {
            slot,
            from,
            known: positions(shared),
            most,
        };
        match self.bound.room(&self.slots, wanted) {
            None => Seat::None,
            Some(memory::Room { slot, given_up }) => Seat::At {
                slot,
                from,
                shared,
                given_up,
            },
        }
    }

    /// Reads the next chunk of the prompts, first come first read.
    fn prefill(&mut self, wanted: &mut Wanted<B>) -> Vec<Passed> {
        let mut reading: Vec<usize> = (0..self.slots.len())
            .filter(|slot| self.slots[*slot].is_reading())
            .collect();
        reading.sort_unstable_by_key(|slot| self.slots[*slot].running.as_ref().map(|one| one.id));
        let mut left = self.options.chunk;
        let mut passed = Vec::new();
        for slot in reading {
            let count = self.slots[slot].unread().min(left);
            if count > 0 {
                passed.push(Passed { slot, count });
            }
            left -= count;
        }
        if passed.is_empty() {
            return passed;
        }
        self.embed(&passed);
        let mut embeds = Vec::with_capacity(passed.len());
        for &Passed { slot, count } in &passed {
            self.cache.reserve(&mut self.slots[slot].kv, count);
            embeds.extend(self.slots[slot].embeds(count));
        }
        let hidden = self.run(embeds, &passed);

        let (mut first, mut next_rows, mut scored_rows) = (0, Vec::new(), Vec::new());
        for &Passed { slot, count } in &passed {
            let of = &self.slots[slot];
            if let Some(row) = of.last_of(count) {
                next_rows.push(first + row);
                wanted.next.push(Next { slot, draft: None });
            }
            for (token, row) in of.scored_of(count) {
                scored_rows.push(first + row);
                wanted.scored.push((slot, token));
            }
            first += count;
        }
        let pick = |rows: Vec<usize>| (!rows.is_empty()).then(|| pick_rows(&hidden, &rows));
        wanted.next_hidden.extend(pick(next_rows));
        wanted.scored_hidden.extend(pick(scored_rows));
        passed
    }

    /// Makes the embeddings of prompts that are about to be read, pictures in one pass through the tower.
    fn embed(&mut self, passed: &[Passed]) {
        let (model, device) = (&self.model, &self.device);
        let is_new = |at: &usize| passed.iter().any(|passed| passed.slot == *at);
        let slots = self.slots.iter_mut().enumerate();
        let mut new: Vec<&mut Running<B>> = slots
            .filter(|(at, _)| is_new(at))
            .filter_map(|(_, slot)| slot.running.as_mut())
            .filter(|running| running.embeds.is_none())
            .collect();
        let started = Instant::now();
        let mut shown: Vec<&mut Picture<B>> = Vec::new();
        let mut has_shown = Vec::with_capacity(new.len());
        let slots = new.iter().map(|running| running.prompt.slots().count());
        let all: usize = slots.sum();
        for running in &mut new {
            let before = shown.len();
            let first = running.first;
            shown.extend(running.prompt.shown_from(first));
            has_shown.push(shown.len() > before);
        }
        let made = self.pictures.encode(&mut shown, model, device);
        self.picture_use.shown += all as u64;
        self.picture_use.known += (all - made) as u64;
        if made > 0 {
            // A device that cannot wait has failed, which the next read-back reports.
            let _ = B::sync(device);
            for (running, _) in new.iter_mut().zip(has_shown).filter(|(_, shown)| *shown) {
                running.timings.vision = started.elapsed();
            }
        }
        for running in new {
            running.embed(model, device);
        }
    }

    /// Reads one token of every answer under way, and those that are drafted behind it.
    fn decode(&mut self, wanted: &mut Wanted<B>) -> Vec<Passed> {
        let (mut passed, mut ids, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let Some(next) = slot.next() else { continue };
            let drafted = slot.draft(self.options.draft);
            self.cache.reserve(&mut slot.kv, 1 + drafted.len());
            passed.push(Passed { slot: at, count: 1 });
            // Every row is a sequence of its own that shares the blocks before it.
            for (behind, id) in std::iter::once(next).chain(drafted).enumerate() {
                let mut sequence = slot.kv.clone();
                sequence.advance(behind);
                let draft = (behind > 0).then(|| (id, sequence.len()));
                wanted.next.push(Next { slot: at, draft });
                ids.push(id);
                sequences.push(sequence);
            }
        }
        if passed.is_empty() {
            return passed;
        }
        let pass = self
            .cache
            .pass(sequences.iter().map(|sequence| (sequence, 1)));
        let embeds = self.model.embed_ids(&ids);
        let hidden = self
            .model
            .run(embeds, &mut self.cache, &pass, &Mode::DECODE);
        wanted.next_hidden.push(hidden.squeeze_dim(0));
        passed
    }

    /// Runs the decoder over the next positions of some prompts: `[rows, hidden]`.
    fn run(&mut self, embeds: Vec<Tensor<B, 3>>, passed: &[Passed]) -> Tensor<B, 2> {
        let parts = passed
            .iter()
            .map(|&Passed { slot, count }| (&self.slots[slot].kv, count));
        let pass = self.cache.pass(parts);
        let hidden = self
            .model
            .run(joined(embeds, 1), &mut self.cache, &pass, &Mode::PREFILL);
        hidden.squeeze_dim(0)
    }

    /// The scores of all tokens at rows that are wanted, `[rows, vocab]`.
    fn scores(&self, wanted: Wanted<B>) -> Option<Tensor<B, 2>> {
        let decoder = &self.model.language_model;
        let groups = [
            // A token is chosen by the same scores whether it is the first of an answer or not.
            (Phase::Decode, wanted.next_hidden),
            (Phase::Prefill, wanted.scored_hidden),
        ];
        let scores = groups
            .into_iter()
            .filter(|(_, hidden)| !hidden.is_empty())
            .map(|(phase, hidden)| decoder.logits_in(phase, joined(hidden, 0)));
        let scores: Vec<_> = scores.collect();
        (!scores.is_empty()).then(|| joined(scores, 0))
    }
}

/// Where a sequence is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seat {
    /// Every slot is taken, or there is no memory for it.
    None,
    /// Another one is reading what it begins with.
    Later,
    /// In a slot, taking its first places from one: itself or another.
    At {
        slot: usize,
        from: usize,
        shared: usize,
        /// Free slots whose blocks it needs.
        given_up: Vec<usize>,
    },
}

/// Parts of a tensor as one.
fn joined<B: Backend, const D: usize>(mut parts: Vec<Tensor<B, D>>, dim: usize) -> Tensor<B, D> {
    match parts.len() {
        1 => parts.remove(0),
        _ => Tensor::cat(parts, dim),
    }
}

/// Some rows of `[rows, hidden]`.
fn pick_rows<B: Backend>(hidden: &Tensor<B, 2>, rows: &[usize]) -> Tensor<B, 2> {
    match rows {
        [row] => hidden.clone().narrow(0, *row, 1),
        _ => {
            let rows: Vec<i32> = rows.iter().map(|row| *row as i32).collect();
            let rows = TensorData::new(rows.clone(), [rows.len()]);
            let rows = Tensor::<B, 1, Int>::from_data(rows, &hidden.device());
            hidden.clone().select(0, rows)
        }
    }
}
