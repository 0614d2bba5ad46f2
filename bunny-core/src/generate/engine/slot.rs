//! A slot: what was read in it, and who is being answered there.

use bunny_base::clock::Instant;
use burn::tensor::{Tensor, backend::Backend};

use super::{Finished, Reuse, SequenceId, Timings, Update};
use crate::{
    Bunny,
    generate::{
        Prompt, Sequence, TokenScore,
        draft::look_up,
        prompt::Place,
        sequence::{likeliest, log_sum_exp, require_finite},
    },
    nn::KvSequence,
};

/// What was read, and whose it is.
#[derive(Debug)]
pub(super) struct Slot<B: Backend> {
    /// Keys and values of what was read.
    pub(super) kv: KvSequence,
    /// What stands at each place of the prompt, and of the answer as far as it was read.
    pub(super) text: Vec<Place>,
    /// Places of the prompt.
    prompt: usize,
    /// The number of who took it last; 0 when nobody has.
    pub(super) taken: u64,
    /// Who is being answered.
    pub(super) running: Option<Running<B>>,
}

/// A sequence that is being answered, or waits.
#[derive(Debug)]
pub(super) struct Running<B: Backend> {
    pub(super) id: SequenceId,
    pub(super) prompt: Prompt<B>,
    /// Positions of the prompt.
    pub(super) positions: usize,
    /// Places of the prompt, and their positions, that were known.
    pub(super) first: usize,
    known: usize,
    /// The prompt from there on, `[1, positions, hidden]`, until it was read.
    pub(super) embeds: Option<Tensor<B, 3>>,
    /// The token that was chosen and not read yet.
    next: Option<u32>,
    work: Work,
    started: Instant,
    has_begun: Option<Instant>,
    pub(super) timings: Timings,
}

/// What is wanted of a sequence.
#[derive(Debug)]
pub(super) enum Work {
    /// An answer.
    Answer(Box<Sequence>),
    /// How likely some of its own tokens are.
    Score {
        tokens: Vec<ToScore>,
        alternatives: usize,
        found: Vec<TokenScore>,
    },
}

/// A token that is to be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToScore {
    pub(super) place: usize,
    pub(super) id: u32,
    /// The position before its own.
    pub(super) row: usize,
}

impl<B: Backend> Default for Slot<B> {
    fn default() -> Self {
        Self {
            kv: KvSequence::new(),
            text: Vec::new(),
            prompt: 0,
            taken: 0,
            running: None,
        }
    }
}

impl<B: Backend> Slot<B> {
    /// A slot whose sequence begins with `shared` places that `kv` holds.
    pub(super) fn taken(
        kv: KvSequence,
        text: Vec<Place>,
        mut running: Running<B>,
        shared: usize,
    ) -> Self {
        running.first = shared;
        running.known = kv.len();
        running.started = Instant::now();
        running.timings.known_positions = running.known;
        running.timings.prefill_positions = running.positions - running.known;
        Self {
            kv,
            prompt: text.len(),
            text,
            taken: running.id.0,
            running: Some(running),
        }
    }

    /// The first positions of what was read; given away when `last`.
    pub(super) fn beginning(&mut self, positions: usize, last: bool) -> KvSequence {
        let mut kv = match last {
            true => std::mem::take(&mut self.kv),
            false => self.kv.clone(),
        };
        kv.truncate(positions);
        kv
    }

    /// How many places of a text are those of this one, from the first on.
    pub(super) fn shares(&self, places: &[Place], reuse: Reuse) -> usize {
        let known = match reuse {
            Reuse::Prompts => &self.text[..self.prompt],
            Reuse::Everything => &self.text,
        };
        let pairs = known.iter().zip(places);
        pairs.take_while(|(known, place)| known == place).count()
    }

    /// Places that were read whole.
    pub(super) fn places_read(&self, per_picture: usize) -> usize {
        let mut position = 0;
        let ends = self.text.iter().map(|place| {
            position += match place {
                Place::Text(_) => 1,
                Place::Picture(_) => per_picture,
            };
            position
        });
        ends.take_while(|end| *end <= self.kv.len()).count()
    }

    /// Positions of the prompt that are yet to be read.
    pub(super) fn unread(&self) -> usize {
        let positions = self.running.as_ref().map_or(0, |one| one.positions);
        positions.saturating_sub(self.kv.len())
    }

    /// Whether a prompt is being read.
    pub(super) fn is_reading(&self) -> bool {
        self.unread() > 0
    }

    /// The embeddings of the next `count` positions of the prompt.
    pub(super) fn embeds(&self, count: usize) -> Option<Tensor<B, 3>> {
        let running = self.running.as_ref()?;
        let embeds = running.embeds.clone()?;
        Some(match embeds.dims()[1] == count {
            true => embeds,
            false => embeds.narrow(1, self.kv.len() - running.known, count),
        })
    }

    /// The row of the prompt's last position, if it is one of the next `count`, and an answer is wanted.
    pub(super) fn last_of(&self, count: usize) -> Option<usize> {
        let answers = matches!(self.running.as_ref()?.work, Work::Answer(_));
        (answers && self.unread() == count).then(|| count - 1)
    }

    /// The tokens that are scored by the next `count` positions, and the rows of those.
    pub(super) fn scored_of(&self, count: usize) -> Vec<(usize, usize)> {
        let Some(Running {
            work: Work::Score { tokens, .. },
            ..
        }) = &self.running
        else {
            return Vec::new();
        };
        let first = self.kv.len();
        let rows = first..first + count;
        let tokens = tokens.iter().enumerate();
        tokens
            .filter(|(_, token)| rows.contains(&token.row))
            .map(|(at, token)| (at, token.row - first))
            .collect()
    }

    /// The token that is to be read next.
    pub(super) fn next(&self) -> Option<u32> {
        self.running.as_ref()?.next
    }

    /// Up to `most` tokens that may follow the next one.
    pub(super) fn draft(&self, most: usize) -> Vec<u32> {
        let Some(Running {
            next: Some(next),
            work: Work::Answer(sequence),
            ..
        }) = &self.running
        else {
            return Vec::new();
        };
        // The last token of an answer is read by nobody.
        let most = most.min(sequence.left().saturating_sub(1));
        match most {
            0 => Vec::new(),
            _ => look_up(&self.text, *next, most),
        }
    }

    /// Takes a drafted token for read, if it is the one that was chosen for its position.
    pub(super) fn accept(&mut self, (id, position): (u32, usize)) -> bool {
        let is_chosen = self.next() == Some(id) && self.kv.len() == position;
        if is_chosen {
            self.advance(1);
        }
        is_chosen
    }

    /// Takes `count` positions for read: the prompt's next, or the chosen token's.
    pub(super) fn advance(&mut self, count: usize) {
        self.kv.advance(count);
        let is_reading = self.is_reading();
        let Some(running) = &mut self.running else {
            return;
        };
        if let Some(id) = running.next.take() {
            self.text.push(Place::Text(id));
        }
        if !is_reading {
            running.embeds = None;
        }
    }

    /// Lets the sequence choose its next token.
    pub(super) fn choose(&mut self, scores: &mut [f32], updates: &mut Vec<(SequenceId, Update)>) {
        let Some(running) = &mut self.running else {
            return;
        };
        let Work::Answer(sequence) = &mut running.work else {
            return;
        };
        let id = running.id;
        let event = sequence.choose(scores).and_then(|id| sequence.push(id));
        let begun = *running.has_begun.get_or_insert_with(|| {
            running.timings.prefill = running.started.elapsed() - running.timings.vision;
            Instant::now()
        });
        match event {
            Err(error) => self.fail(error, updates),
            Ok(event) => {
                running.next = Some(event.id);
                running.timings.decode = begun.elapsed();
                running.timings.decode_tokens = sequence.ids().len() - 1;
                let has_ended = event.finish.is_some();
                updates.push((id, Update::Token(event)));
                if has_ended && let Some(running) = self.leave() {
                    updates.push((id, running.update()));
                }
            }
        }
    }

    /// Scores a token by the scores of all.
    pub(super) fn score(
        &mut self,
        token: usize,
        scores: &[f32],
        updates: &mut Vec<(SequenceId, Update)>,
    ) {
        let Some(running) = &mut self.running else {
            return;
        };
        let Work::Score {
            tokens,
            alternatives,
            found,
        } = &mut running.work
        else {
            return;
        };
        let ToScore { place, id, .. } = tokens[token];
        if let Err(error) = require_finite(scores, || place) {
            return self.fail(error, updates);
        }
        let norm = log_sum_exp(scores);
        let of = |id: u32| (f64::from(scores[id as usize]) - norm) as f32;
        let top = likeliest(scores, *alternatives).into_iter();
        found.push(TokenScore {
            place,
            id,
            log_probability: of(id),
            top: top.map(|id| (id, of(id))).collect(),
        });
        if found.len() == tokens.len()
            && let Some(running) = self.leave()
        {
            updates.push((running.id, running.update()));
        }
    }

    /// Ends the sequence of this slot; nobody is to begin with what led there.
    fn fail(&mut self, error: crate::Error, updates: &mut Vec<(SequenceId, Update)>) {
        let failed = std::mem::take(self).running;
        updates.extend(failed.map(|running| (running.id, Update::Failed(error))));
    }

    /// Takes a sequence out, if it is this slot's.
    pub(super) fn take(&mut self, id: SequenceId) -> Option<Running<B>> {
        let is_it = self.running.as_ref().is_some_and(|one| one.id == id);
        is_it.then(|| self.leave()).flatten()
    }

    /// Takes the sequence out; what was read stays.
    fn leave(&mut self) -> Option<Running<B>> {
        self.running.take()
    }
}

impl<B: Backend> Running<B> {
    pub(super) fn new(id: SequenceId, prompt: Prompt<B>, positions: usize, work: Work) -> Self {
        Self {
            id,
            prompt,
            positions,
            first: 0,
            known: 0,
            embeds: None,
            next: None,
            work,
            started: Instant::now(),
            has_begun: None,
            timings: Timings::default(),
        }
    }

    /// Whether nothing is wanted of it.
    pub(super) fn is_done(&self) -> bool {
        match &self.work {
            Work::Answer(sequence) => sequence.finish().is_some(),
            Work::Score { tokens, found, .. } => tokens.len() == found.len(),
        }
    }

    /// Places that may be taken from another sequence: scores are wanted of what stands behind them.
    pub(super) fn most_shared(&self) -> usize {
        match &self.work {
            Work::Answer(_) => self.prompt.tokens.len() - 1,
            Work::Score { tokens, .. } => tokens.first().map_or(0, |first| first.place - 1),
        }
    }

    /// Positions that are read of it at most: its prompt's, and those of all tokens but the last.
    pub(super) fn most_positions(&self) -> usize {
        match &self.work {
            Work::Answer(sequence) => self.positions + sequence.most_tokens().saturating_sub(1),
            Work::Score { .. } => self.positions,
        }
    }

    /// Makes the embeddings of what is yet to be read.
    pub(super) fn embed(&mut self, model: &Bunny<B>, device: &B::Device) {
        self.embeds = Some(self.prompt.embed_from(self.first, model, device));
    }

    /// The answer, if one was wanted.
    pub(super) fn finished(self) -> Option<Finished> {
        match self.work {
            Work::Answer(sequence) => Some(Finished {
                sequence: *sequence,
                timings: self.timings,
            }),
            Work::Score { .. } => None,
        }
    }

    /// What it came to.
    pub(super) fn update(self) -> Update {
        match self.work {
            Work::Answer(sequence) => Update::Finished(Box::new(Finished {
                sequence: *sequence,
                timings: self.timings,
            })),
            Work::Score { found, .. } => Update::Scored(found),
        }
    }
}
