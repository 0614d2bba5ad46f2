//! The last stages: windows of ranks, and the draw among what they leave.

use super::{Chain, Run};
use crate::coreset::bucket::Buckets;
use crate::coreset::engine::{AnyTask, drive, map, merged};
use crate::coreset::histogram::Cosines;
use crate::coreset::manifest::fingerprint;
use crate::coreset::options::{Order, Scope, Window};
use crate::coreset::search::ranks::{Key, Seen, Select};
use crate::coreset::stages::sample::{self, Keys, Survive};
use crate::coreset::stages::windows::{By, Count, Cut, Rank, Ranked, Survivors, unordered};
use crate::embeddings::EmbeddingSet;
use crate::error::Result;
use crate::store;

impl Run<'_> {
    /// Steps 2 and 3 and the draw; the key of the chosen rows.
    pub(super) fn windows_and_sample(
        &self,
        set: &EmbeddingSet,
        kept: &str,
        buckets: Buckets,
        chain: &Chain,
    ) -> Result<([Ranked; 2], String)> {
        let buckets = buckets.count as usize;
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
                Some(window) => self.cut(&mut survivors, by, window)?,
                None => {
                    let (rows, values) = self.count(&survivors, by)?;
                    Ranked {
                        rows,
                        kept: rows,
                        values,
                        bounds: [None; 2],
                    }
                }
            };
        }
        let word = fingerprint(&("survivors", chain, &self.options.windows, &self.identity))?;
        let stage = self.stage("survivors", &word)?;
        let folder = stage.folder.clone();
        let task = AnyTask::Survivors(Survive { survivors, stage });
        map(self.engine, &task, self.store, |_| Ok(()))?;
        let all = format!("{folder}/survivors.bin");
        if !store::exists(self.store, &all)? {
            sample::merge(self.store, &folder, buckets, &all)?;
        }
        let Some(sample) = self
            .options
            .sample
            .filter(|sample| *sample < ranked[1].kept)
        else {
            return Ok((ranked, all));
        };
        let word = fingerprint(&("keys", word, self.options.seed, &self.options.embeddings))?;
        let stage = self.stage("keys", &word)?;
        let folder = stage.folder.clone();
        let chosen = format!("{folder}/chosen-{sample}.bin");
        if !store::exists(self.store, &chosen)? {
            let task = AnyTask::Keys(Keys {
                set: set.clone(),
                survivors: all.clone(),
                seed: self.options.seed,
                stage,
            });
            drive(self.engine, |worker| {
                worker.progress.begin("keys", ranked[1].kept);
            });
            map(self.engine, &task, self.store, |_| Ok(()))?;
            drive(self.engine, |_| {
                sample::draw(self.store, &all, &folder, task.parts(), sample, &chosen)
            })?;
        }
        Ok((ranked, chosen))
    }

    /// Counts the survivors so far, and the values of what is named.
    fn count(&self, survivors: &Survivors, by: By) -> Result<(u64, Cosines)> {
        let task = AnyTask::Count(Count {
            survivors: survivors.clone(),
            by,
        });
        let join = |a: &mut (u64, Cosines), b: (u64, Cosines)| {
            a.0 += b.0;
            a.1.merge(&b.1);
        };
        Ok(merged(self.engine, &task, self.store, join)?.unwrap_or_default())
    }

    /// Finds out which of the survivors lie within a window, and adds that cut to them.
    fn cut(&self, survivors: &mut Survivors, by: By, window: Window) -> Result<Ranked> {
        let (rows, values) = self.count(survivors, by)?;
        let mut ranked = Ranked {
            rows,
            values,
            ..Ranked::default()
        };
        if window.scope == Scope::PerCluster {
            survivors.cuts.push(Cut::PerCluster { by, window });
            ranked.kept = self.count(survivors, by)?.0;
            return Ok(ranked);
        }
        let ranks = window.ranks(rows);
        ranked.kept = ranks.end - ranks.start;
        if ranks.is_empty() {
            survivors.cuts.push(Cut::Nothing);
            return Ok(ranked);
        }
        let inside: Vec<u64> = [ranks.start, ranks.end]
            .into_iter()
            .filter(|rank| *rank < rows)
            .collect();
        let mut select = Select::new(&inside, rows);
        let keys = loop {
            if let Some(found) = select.found() {
                break found;
            }
            let task = AnyTask::Rank(Rank {
                survivors: survivors.clone(),
                by,
                order: window.order,
                select: select.clone(),
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
        ranked.bounds = [keys.first().map(value), keys.get(1).map(value)];
        survivors.cuts.push(Cut::Between {
            by,
            order: window.order,
            from: keys.first().copied(),
            to: keys.get(1).copied(),
        });
        Ok(ranked)
    }
}
