//! What a model's products are given: the importance of their channels when weights are rounded.

use burn::tensor::backend::Backend;

use super::Prompt;
use crate::{Bunny, Error, checkpoint::MeanSquares, input::tokenizer::Token, nn::Observer};

/// Runs the language model over whole texts, pictures included, and gives the mean squares of what each
/// product of its layers is given.
///
/// Words and pictures count alike, however many positions pictures take: what answers hang on is mostly
/// said in few words.
///
/// # Errors
/// When a text is empty, has a picture that is missing, or has more positions than the model.
pub fn mean_squares<B: Backend>(
    model: &mut Bunny<B>,
    texts: Vec<Prompt<B>>,
    device: &B::Device,
) -> Result<MeanSquares, Error> {
    let per_picture = model.config().vision.tokens();
    let context = model.config().decoder.max_position_embeddings;
    let (mut words, mut of_pictures) = (0, 0);
    for text in &texts {
        text.places()?;
        let pictures = text.slots().count() * per_picture;
        let positions = model.positions(&text.tokens);
        if positions > context {
            return Err(Error::TooLong {
                prompt: positions,
                pictures,
                context,
            });
        }
        of_pictures += pictures;
        words += positions - pictures;
    }
    let observer = Observer::default();
    let mut products = 0;
    for layer in &mut model.language_model.model.layers {
        for product in layer.products_mut() {
            product.observer = Some((observer.clone(), products));
            products += 1;
        }
    }
    for mut text in texts {
        let rows = text.tokens.iter().flat_map(|token| match token {
            Token::Text(_) => vec![1.0 / words as f32],
            Token::Picture(_) => vec![1.0 / of_pictures as f32; per_picture],
        });
        observer.begin(rows.collect());
        let embeds = text.embed_from(0, model, device);
        model.forward(embeds);
    }
    for layer in &mut model.language_model.model.layers {
        for product in layer.products_mut() {
            product.observer = None;
        }
    }
    let specs = model.config().describe();
    let layers = specs.iter().filter_map(|spec| spec.adapter_target());
    let means = observer.take().into_iter();
    let means = means.map(|sums| sums.iter().map(|sum| *sum as f32).collect());
    Ok(layers.map(str::to_owned).zip(means).collect())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Tensor;
    use burn_flex::Flex;

    use super::*;
    use crate::{
        checkpoint::{ModelSource, Precision},
        generate::{Picture, Pipeline},
        input::image::Pixels,
    };

    fn pipeline() -> Pipeline<Flex> {
        let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models");
        let source = ModelSource::merged(format!("{models}/phi-siglip"));
        Pipeline::load(&source, Precision::F32, Default::default()).unwrap()
    }

    fn numbers<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
        tensor.into_data().to_vec().unwrap()
    }

    #[test]
    fn the_first_products_are_given_what_the_first_norm_makes() {
        let Pipeline { model, device, .. } = pipeline();
        let mut model = std::sync::Arc::into_inner(model).unwrap();
        let pixels = Pixels {
            data: (0..3 * 46 * 46)
                .map(|at| (at % 19) as f32 / 9.0 - 1.0)
                .collect(),
            height: 46,
            width: 46,
        };
        let picture = Picture::new(pixels);
        let text = |tokens: Vec<Token>, pictures| Prompt { tokens, pictures };
        let words = |ids: &[u32]| ids.iter().map(|id| Token::Text(*id)).collect::<Vec<_>>();
        let with_picture = [words(&[5, 6]), vec![Token::Picture(0)], words(&[7])].concat();
        let texts = vec![
            text(with_picture, vec![picture]),
            text(words(&[9, 10, 11]), Vec::new()),
        ];
        // Six words, and nine positions of a picture, which count as much together.
        let mut expected = vec![0f64; 48];
        for mut text in texts.clone() {
            let embeds = text.embed_from(0, &model, &device);
            let rows = embeds.dims()[1];
            let normed = model.language_model.model.layers[0]
                .input_layernorm
                .forward(embeds);
            for (row, numbers) in numbers(normed).chunks(48).enumerate() {
                let is_picture = rows == 12 && (2..11).contains(&row);
                let count = if is_picture { 9.0 } else { 6.0 };
                for (sum, number) in expected.iter_mut().zip(numbers) {
                    *sum += f64::from(*number).powi(2) / count;
                }
            }
        }
        let found = mean_squares(&mut model, texts, &device).unwrap();
        assert_eq!(found.len(), 3 * 6);
        for name in ["self_attn.q_proj", "self_attn.v_proj", "mlp.fc1"] {
            let found = &found[&format!("model.layers.0.{name}")];
            for (found, expected) in found.iter().zip(&expected) {
                assert!((f64::from(*found) / expected - 1.0).abs() < 1e-5, "{name}");
            }
        }
        assert_eq!(found["model.layers.2.mlp.fc2"].len(), 112);
        assert!(found.values().flatten().all(|mean| mean.is_finite()));
    }
}
