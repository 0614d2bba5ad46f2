//! The last stages: windows of ranks, and the draw among what they leave.

use std::path::{Path, PathBuf};

use super::{Chain, Run};
use crate::coreset::bucket::Buckets;
use crate::coreset::engine::Engine;
use crate::coreset::engine::resumable::{Resumable, fingerprint, stage_folder};
use crate::coreset::stages::sample::{self, HashKeys, Survive};
use crate::coreset::stages::windows::{self, By, Ranked, Survivors};
use crate::embeddings::EmbeddingSet;
use crate::error::Result;

impl<E: Engine + Sync> Run<'_, E> {
    /// Steps 2 and 3 and the draw; the path of the chosen rows.
    pub(super) fn choose(
        &self,
        set: &EmbeddingSet,
        kept: &Path,
        buckets: Buckets,
        chain: &Chain,
    ) -> Result<([Ranked; 2], PathBuf)> {
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
                Some(window) => windows::cut(self.engine, &mut survivors, by, window)?,
                None => {
                    let (rows, values) = windows::count(self.engine, &survivors, by)?;
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
        let folder = stage_folder(&self.work, "survivors", &word)?;
        let task = Resumable {
            task: Survive {
                survivors,
                folder: folder.clone(),
            },
            folder: folder.clone(),
            fingerprint: word.clone(),
        };
        self.engine.map_buckets(&task, buckets)?;
        let all = folder.join("survivors.bin");
        if !all.is_file() {
            sample::merge(&folder, buckets, &all)?;
        }
        let Some(sample) = self
            .options
            .sample
            .filter(|sample| *sample < ranked[1].kept)
        else {
            return Ok((ranked, all));
        };
        let word = fingerprint(&("keys", word, self.options.seed, &self.options.embeddings))?;
        let folder = stage_folder(&self.work, "keys", &word)?;
        let chosen = folder.join(format!("chosen-{sample}.bin"));
        if !chosen.is_file() {
            let task = Resumable {
                task: HashKeys {
                    set: set.clone(),
                    survivors: all.clone(),
                    seed: self.options.seed,
                    folder: folder.clone(),
                },
                folder: folder.clone(),
                fingerprint: word,
            };
            self.engine
                .drive(|worker| worker.progress.begin("keys", ranked[1].kept));
            let parts = set.parts().len();
            self.engine.map_files(&task, parts)?;
            self.engine
                .drive(|_| sample::draw(&all, &folder, parts, sample, &chosen))?;
        }
        Ok((ranked, chosen))
    }
}
