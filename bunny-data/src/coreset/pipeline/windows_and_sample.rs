//! The last stages: windows of ranks, and the draw among what they leave.

use super::{Chain, Run};
use crate::coreset::bucket::Buckets;
use crate::coreset::engine::{AnyTask, drive, map, merged};
use crate::coreset::histogram::Cosines;
use crate::coreset::manifest::fingerprint;
use crate::coreset::options::{Order, Scope, Window};
use crate::coreset::search::ranks::{Key, Seen, Select};
use crate::coreset::stages::Stage;
use crate::coreset::stages::sample::{self, InOrder, Keys, Survive};
use crate::coreset::stages::windows::{By, Count, Cut, Rank, Ranked, Seat, Survivors, unordered};
use crate::embeddings::EmbeddingSet;
use crate::error::Result;

/// Rows that the report shows on either side of each end of a window.
const SEATS: u64 = 3;

/// The stages that look at survivors, of which each hangs on what those before it found.
struct Looks {
    stage: Stage,
    taken: usize,
}

impl Looks {
    fn next(&mut self, what: &str) -> Stage {
        self.taken += 1;
        Stage {
            name: format!("{what}-{:02}", self.taken),
            ..self.stage.clone()
        }
    }
}

impl Run<'_> {
    /// Steps 2 and 3 and the draw; the chosen rows.
    pub(super) fn windows_and_sample(
        &self,
        set: &EmbeddingSet,
        kept: &str,
        buckets: Buckets,
        chain: &Chain,
    ) -> Result<([Ranked; 2], InOrder)> {
        let buckets = buckets.count as usize;
        let word = fingerprint(&("ranks", chain, &self.options.windows))?;
        let mut looks = Looks {
            stage: self.stage("ranks", &word)?,
            taken: 0,
        };
        let mut survivors = Survivors {
            folder: kept.to_owned(),
            buckets,
            cuts: Vec::new(),
        };
        let steps = [
            (By::Score, self.options.windows.score),
            (By::Centroid, self.options.windows.centroid),
        ];
        let mut ranked = [Ranked::default(), Ranked::default()];
        for (ranked, (by, window)) in ranked.iter_mut().zip(steps) {
            *ranked = match window {
                Some(window) => self.cut(&mut looks, &mut survivors, by, window)?,
                None => {
                    let (rows, values) = self.count(&mut looks, &survivors, by)?;
                    Ranked {
                        rows,
                        kept: rows,
                        values,
                        ..Ranked::default()
                    }
                }
            };
        }
        let word = fingerprint(&("survivors", chain, &self.options.windows, &self.identity))?;
        let survive = Survive {
            survivors,
            stage: self.stage("survivors", &word)?,
        };
        let task = AnyTask::Survivors(survive.clone());
        map(self.engine, &task, self.store, |_| Ok(()))?;
        let all = InOrder::new(&survive.stage.folder, "all");
        if !all.is_whole(self.store)? {
            drive(self.engine, |_| {
                sample::merge(self.store, set, &survive, &all)
            })?;
        }
        let left = ranked[1].kept;
        let Some(sample) = self.options.sample.filter(|sample| *sample < left) else {
            return Ok((ranked, all));
        };
        let word = fingerprint(&("keys", word, self.options.seed, &self.options.embeddings))?;
        let stage = self.stage("keys", &word)?;
        let drawn = InOrder::new(&stage.folder, &format!("chosen-{sample}"));
        if !drawn.is_whole(self.store)? {
            let keys = Keys {
                set: set.clone(),
                survivors: all,
                seed: self.options.seed,
                stage,
            };
            drive(self.engine, |worker| worker.progress.begin("keys", left));
            let task = AnyTask::Keys(keys.clone());
            map(self.engine, &task, self.store, |_| Ok(()))?;
            drive(self.engine, |_| {
                sample::draw(self.store, &keys, left, sample, &drawn)
            })?;
        }
        Ok((ranked, drawn))
    }

    /// Counts the survivors so far, and the values of what is named.
    fn count(&self, looks: &mut Looks, survivors: &Survivors, by: By) -> Result<(u64, Cosines)> {
        let task = AnyTask::Count(Count {
            survivors: survivors.clone(),
            by,
            stage: looks.next("count"),
        });
        let join = |a: &mut (u64, Cosines), b: (u64, Cosines)| {
            a.0 += b.0;
            a.1.merge(&b.1);
        };
        Ok(merged(self.engine, &task, self.store, join)?.unwrap_or_default())
    }

    /// Finds out which of the survivors lie within a window, and adds that cut to them.
    fn cut(
        &self,
        looks: &mut Looks,
        survivors: &mut Survivors,
        by: By,
        window: Window,
    ) -> Result<Ranked> {
        let (rows, values) = self.count(looks, survivors, by)?;
        let mut ranked = Ranked {
            rows,
            values,
            ..Ranked::default()
        };
        if window.scope == Scope::PerCluster {
            survivors.cuts.push(Cut::PerCluster { by, window });
            ranked.kept = self.count(looks, survivors, by)?.0;
            return Ok(ranked);
        }
        let ranks = window.ranks(rows);
        ranked.kept = ranks.end - ranks.start;
        if ranks.is_empty() {
            survivors.cuts.push(Cut::Nothing);
            return Ok(ranked);
        }
        // The bounds, and who is shown about them.
        let about = |end: u64| end.saturating_sub(SEATS)..rows.min(end + SEATS);
        let mut looked: Vec<u64> = about(ranks.start).chain(about(ranks.end)).collect();
        looked.sort_unstable();
        looked.dedup();
        let mut select = Select::new(&looked, rows);
        let keys = loop {
            if let Some(found) = select.found() {
                break found;
            }
            let task = AnyTask::Rank(Rank {
                survivors: survivors.clone(),
                by,
                order: window.order,
                select: select.clone(),
                stage: looks.next("rank"),
            });
            if let Some(seen) = merged(self.engine, &task, self.store, Seen::merge)? {
                select.advance(seen);
            }
        };
        let value = |key: &Key| {
            unordered(match window.order {
                Order::Descending => !key.0,
                Order::Ascending => key.0,
            })
        };
        let at = |rank: u64| looked.binary_search(&rank).ok().map(|place| keys[place]);
        let (from, to) = (at(ranks.start), at(ranks.end));
        ranked.bounds = [from, to].map(|key| key.as_ref().map(value));
        ranked.seats = looked
            .iter()
            .zip(&keys)
            .map(|(rank, key)| Seat {
                rank: *rank,
                // Six decimals come back from JSON as they were.
                value: (1e6 * value(key)).round() / 1e6,
                row: key.1,
                inside: ranks.contains(rank),
            })
            .collect();
        survivors.cuts.push(Cut::Between {
            by,
            order: window.order,
            from,
            to,
        });
        Ok(ranked)
    }
}
