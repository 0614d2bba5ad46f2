//! A pair of towers as what embeddings are made with.

use bunny_core::{
    input::{
        image::{DecodeOptions, ImageProcessor, Pixels, decode},
        tokenizer::CaptionTokenizer,
    },
    model::pair::Pair,
};
use bunny_data::embed::{Encoder, EncoderError};
use burn::tensor::{Tensor, backend::Backend};
use rayon::prelude::*;

/// A pair of towers with what prepares pictures and captions for it.
#[derive(Debug)]
pub struct PairEncoder<B: Backend> {
    pub pair: Pair<B>,
    pub tokenizer: CaptionTokenizer,
    pub processor: ImageProcessor,
    /// What tells its vectors from others'.
    pub fingerprint: String,
}

/// Captions of like lengths are encoded together: how many ids they may differ by.
const LENGTHS: usize = 8;

impl<B: Backend> Encoder for PairEncoder<B> {
    type Picture = Pixels;

    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn dims(&self) -> usize {
        self.pair.config().projection_dim
    }

    fn prepare(&self, bytes: &[u8]) -> Result<Pixels, EncoderError> {
        let picture = decode(bytes, DecodeOptions::default())?;
        Ok(self.processor.process(&picture))
    }

    fn pictures(&self, pictures: &[Pixels]) -> Result<Vec<f32>, EncoderError> {
        let pictures: Vec<&Pixels> = pictures.iter().collect();
        numbers(self.pair.pictures(&pictures))
    }

    fn captions(&self, captions: &[String]) -> Result<Vec<f32>, EncoderError> {
        let ids = captions
            .par_iter()
            .map(|caption| self.tokenizer.ids(caption));
        let mut ids: Vec<Vec<i32>> = ids.collect::<Result<_, _>>()?;
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|at| ids[*at].len());
        let dims = self.dims();
        let mut vectors = vec![0.0; ids.len() * dims];
        let alike = |a: &usize, b: &usize| ids[*a].len() / LENGTHS == ids[*b].len() / LENGTHS;
        let groups: Vec<Vec<usize>> = order.chunk_by(alike).map(<[_]>::to_vec).collect();
        for group in groups {
            let own: Vec<Vec<i32>> = group
                .iter()
                .map(|at| std::mem::take(&mut ids[*at]))
                .collect();
            let made = numbers(self.pair.captions(&own)?)?;
            for (at, vector) in group.iter().zip(made.chunks_exact(dims)) {
                vectors[at * dims..][..dims].copy_from_slice(vector);
            }
        }
        Ok(vectors)
    }
}

fn numbers<B: Backend>(vectors: Tensor<B, 2>) -> Result<Vec<f32>, EncoderError> {
    let numbers = vectors.into_data().to_vec();
    numbers.map_err(|error| format!("the device gave other numbers: {error:?}").into())
}
