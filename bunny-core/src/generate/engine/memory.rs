//! How much keys and values may take, and what has to go for more.
//!
//! A sequence gets a slot only where all that it may come to need fits: none is ever broken off for
//! another one. What fits is counted in blocks:
//!
//! ```text
//! under way   ████ ████ ██░░ ░░░░ ░░░░   prompt and longest answer: two were read whole, three are to come
//! free slot   ████ ████ ██               what was read stays: three are kept
//! ```
//!
//! Blocks that were read whole or are kept, shared ones once, and those to come are at most what is
//! allowed. Only a new sequence makes that sum larger; what free slots keep makes room for it, what was
//! taken longest ago first.

use std::collections::HashSet;

use burn::tensor::backend::Backend;

use super::slot::Slot;
use crate::{Error, nn::KvCache};

/// What is held of keys and values, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheUse {
    /// By sequences under way.
    pub running: u64,
    /// By them, and by slots that keep what others may begin with.
    pub held: u64,
    /// That may be held, and may come to be.
    pub allowed: u64,
}

/// What keys and values may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// In bytes, where there is a bound.
    allowed: Option<u64>,
    block_positions: usize,
    block_bytes: usize,
}

/// A slot that is wanted for a sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub slot: usize,
    /// The slot whose first `known` positions it begins with.
    pub from: usize,
    pub known: usize,
    /// Positions that it may come to have.
    pub most: usize,
}

/// Where a sequence finds room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    pub slot: usize,
    /// Free slots whose blocks have to go.
    pub given_up: Vec<usize>,
}

impl Bound {
    pub(super) fn new<B: Backend>(bytes: Option<u64>, cache: &KvCache<B>) -> Self {
        Self {
            allowed: bytes,
            block_positions: cache.block_positions(),
            block_bytes: cache.block_bytes(),
        }
    }

    /// The same in blocks.
    fn blocks(&self) -> Option<usize> {
        let bytes = usize::try_from(self.allowed?).unwrap_or(usize::MAX);
        Some(bytes / self.block_bytes)
    }

    /// Positions that may be held.
    pub(super) fn positions(&self) -> usize {
        let blocks = self.blocks().unwrap_or(usize::MAX);
        blocks.saturating_mul(self.block_positions)
    }

    /// The tokens that an answer to a prompt of so many positions may have; nothing is held of the last.
    ///
    /// # Errors
    /// When the prompt alone is too long.
    pub(super) fn left(&self, prompt: usize) -> Result<usize, Error> {
        let left = self.positions().checked_sub(prompt);
        left.map(|left| left.saturating_add(1))
            .ok_or_else(|| Error::CacheTooSmall {
                needed: self.bytes(self.blocks_of(prompt)),
                allowed: self.allowed.unwrap_or(u64::MAX),
            })
    }

    /// What is held, by slots that may each come to have `context` positions.
    pub(super) fn usage<B: Backend>(
        &self,
        slots: &[Slot<B>],
        cache: &KvCache<B>,
        context: usize,
    ) -> CacheUse {
        let running = slots.iter().filter(|slot| slot.running.is_some());
        let running: HashSet<usize> = running.flat_map(|slot| slot.kv.blocks()).collect();
        let needed = slots.len() * self.blocks_of(context);
        CacheUse {
            running: self.bytes(running.len()),
            held: cache.bytes_in_use() as u64,
            allowed: self.bytes(self.blocks().map_or(needed, |blocks| blocks.min(needed))),
        }
    }

    /// Where a sequence finds room, if it does; in its donor's place if not beside it.
    pub(super) fn room<B: Backend>(&self, slots: &[Slot<B>], mut wanted: Wanted) -> Option<Room> {
        let mut given_up = Vec::new();
        let Some(blocks) = self.blocks() else {
            let slot = wanted.slot;
            return Some(Room { slot, given_up });
        };
        let is_free = |at: &usize| slots[*at].running.is_none();
        let others = (0..slots.len()).filter(|at| ![wanted.slot, wanted.from].contains(at));
        let mut others: Vec<usize> = others.filter(is_free).collect();
        others.sort_unstable_by_key(|at| std::cmp::Reverse(slots[*at].taken));
        while self.blocks_with(slots, &wanted, &given_up) > blocks {
            if let Some(oldest) = others.pop() {
                given_up.push(oldest);
            } else if wanted.slot != wanted.from && is_free(&wanted.from) {
                given_up.push(wanted.slot);
                wanted.slot = wanted.from;
            } else {
                return None;
            }
        }
        let slot = wanted.slot;
        Some(Room { slot, given_up })
    }

    /// Blocks that are held or to come where a sequence gets its slot and others are given up.
    fn blocks_with<B: Backend>(
        &self,
        slots: &[Slot<B>],
        wanted: &Wanted,
        given_up: &[usize],
    ) -> usize {
        let whole = wanted.known / self.block_positions;
        let mut held: HashSet<usize> = slots[wanted.from].kv.blocks().take(whole).collect();
        let mut to_come = self.blocks_of(wanted.most) - whole;
        for (at, slot) in slots.iter().enumerate() {
            if at == wanted.slot || given_up.contains(&at) {
                continue;
            }
            let whole = match &slot.running {
                Some(running) => {
                    let whole = slot.kv.len() / self.block_positions;
                    to_come += self.blocks_of(running.most_positions()) - whole;
                    whole
                }
                None => usize::MAX,
            };
            held.extend(slot.kv.blocks().take(whole));
        }
        held.len() + to_come
    }

    fn blocks_of(&self, positions: usize) -> usize {
        positions.div_ceil(self.block_positions)
    }

    fn bytes(&self, blocks: usize) -> u64 {
        (blocks as u64).saturating_mul(self.block_bytes as u64)
    }
}
