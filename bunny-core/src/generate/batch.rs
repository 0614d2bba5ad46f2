//! Several prompts answered at once.

use burn::tensor::{Tensor, backend::Backend};

use super::{
    GenerationOptions, Picture, Sampler,
    read::{read, wait},
    session,
};
use crate::{Bunny, Error, input::tokenizer::Token, nn::Mode};

/// One prompt of a batch.
#[derive(Debug)]
pub struct Prompt<B: Backend> {
    /// Its tokens and picture slots.
    pub tokens: Vec<Token>,
    /// Its pictures, in the order of their slots.
    pub pictures: Vec<Picture<B>>,
}

/// The chosen tokens of every prompt, the end of text included where it came: the same as each
/// prompt alone would get. Shorter prompts are padded on the left, and the padding is masked.
///
/// `end` is the token that ends an answer. Stop texts are not looked for.
///
/// # Errors
/// When a prompt is empty, a prompt and its answer do not fit the model's positions, or a picture is
/// missing.
pub fn generate<B: Backend>(
    model: &Bunny<B>,
    prompts: &mut [Prompt<B>],
    options: &GenerationOptions,
    end: Option<u32>,
    device: &B::Device,
) -> Result<Vec<Vec<u32>>, Error> {
    wait(generate_async(model, prompts, options, end, device))
}

/// [`generate`] without blocking a thread while the device computes.
///
/// # Errors
/// As [`generate`].
pub async fn generate_async<B: Backend>(
    model: &Bunny<B>,
    prompts: &mut [Prompt<B>],
    options: &GenerationOptions,
    end: Option<u32>,
    device: &B::Device,
) -> Result<Vec<Vec<u32>>, Error> {
    let lengths: Vec<usize> = prompts.iter().map(|p| model.positions(&p.tokens)).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0);
    if prompts.is_empty() || options.max_new_tokens == 0 {
        return Ok(vec![Vec::new(); prompts.len()]);
    }
    if lengths.contains(&0) {
        return Err(Error::EmptyPrompt);
    }
    let context = model.config().decoder.max_position_embeddings;
    if longest + options.max_new_tokens > context {
        return Err(Error::TooLong {
            prompt: longest,
            pictures: prompts
                .iter()
                .map(|p| p.pictures.len() * model.config().vision.tokens())
                .max()
                .unwrap_or(0),
            answer: options.max_new_tokens,
            context,
        });
    }
    Picture::encode_all(
        prompts.iter_mut().flat_map(|prompt| &mut prompt.pictures),
        model,
        device,
    );
    let starts: Vec<usize> = lengths.iter().map(|length| longest - length).collect();
    let mut rows = Vec::with_capacity(prompts.len());
    for (prompt, &start) in prompts.iter_mut().zip(&starts) {
        let embeds = session::embed(model, &prompt.tokens, &mut prompt.pictures, device)?;
        let padding = [1, start, embeds.dims()[2]];
        rows.push(match start {
            0 => embeds,
            _ => Tensor::cat(
                vec![Tensor::zeros(padding, (device, embeds.dtype())), embeds],
                1,
            ),
        });
    }
    let mut cache = model.new_cache(rows.len(), longest + options.max_new_tokens, device);
    let mut embeds = Tensor::cat(rows, 0); // [batch, longest, hidden]

    let mut samplers = vec![Sampler::new(options); prompts.len()];
    let mut seen: Vec<Vec<u32>> = prompts.iter().map(|p| text_ids(&p.tokens)).collect();
    let mut answers: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
    let mut open: Vec<bool> = vec![true; prompts.len()];
    loop {
        let hidden = model.forward(embeds, &starts, Some(&mut cache), &Mode::INFERENCE);
        let logits = model.last_logits(hidden);
        let vocab = logits.dims()[1];
        let mut logits: Vec<f32> = read(logits).await.iter::<f32>().collect();
        let mut next = Vec::with_capacity(prompts.len());
        for (row, logits) in logits.chunks_exact_mut(vocab).enumerate() {
            // A row that has ended goes on with any token; nobody reads it.
            let mut id = 0;
            if open[row] {
                id = samplers[row].sample(logits, &seen[row]);
                answers[row].push(id);
                seen[row].push(id);
                open[row] = Some(id) != end && answers[row].len() < options.max_new_tokens;
            }
            next.push(Token::Text(id));
        }
        if !open.contains(&true) {
            return Ok(answers);
        }
        embeds = model.embed_text(&next).unsqueeze_dim(1); // [batch, 1, hidden]
    }
}

fn text_ids(tokens: &[Token]) -> Vec<u32> {
    tokens
        .iter()
        .map(|token| match token {
            Token::Text(id) => *id,
            Token::Picture(_) => 0,
        })
        .collect()
}
