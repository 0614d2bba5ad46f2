//! A Bunny as one module inside another burn program: a classifier of pictures that reads the
//! decoder's last hidden state.
#![recursion_limit = "256"]

use bunny_core::{
    Bunny,
    checkpoint::Precision,
    config::presets::Preset,
    input::image::{ImageProcessor, Pixels},
};
use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Tensor, backend::Backend},
};
use burn_flex::Flex;

/// The model, and a head of one's own.
#[derive(Module, Debug)]
struct Classifier<B: Backend> {
    bunny: Bunny<B>,
    head: Linear<B>,
}

impl<B: Backend> Classifier<B> {
    /// `[3, size, size]` → scores of the classes, `[1, classes]`
    fn forward(&self, picture: &Pixels, device: &B::Device) -> Tensor<B, 2> {
        let embeds = self.bunny.encode_pictures(&[picture], device); // [1, tokens, hidden]
        let hidden = self.bunny.forward(embeds);
        let [_, tokens, _] = hidden.dims();
        self.head
            .forward(hidden.narrow(1, tokens - 1, 1).squeeze_dim::<2>(1))
    }
}

fn main() {
    let device = Default::default();
    // A small model of random weights; `Bunny::load` takes a checkpoint's.
    let mut config = Preset::named("bunny-phi-1.5-siglip")
        .expect("a known name")
        .config();
    config.decoder.num_hidden_layers = 1;
    config.decoder.vocab_size = 1000;
    let hidden_size = config.decoder.hidden_size;
    let classifier = Classifier::<Flex> {
        bunny: Bunny::random(&config, 0, Precision::F32, &device),
        head: LinearConfig::new(hidden_size, 10).init(&device),
    };
    let processor = ImageProcessor::siglip(config.vision.image_size());
    let picture = processor.process(&image::RgbImage::new(640, 480));
    println!("{}", classifier.forward(&picture, &device));
}
