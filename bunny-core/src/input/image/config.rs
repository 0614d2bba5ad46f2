//! A processor from a tower's or a LLaVA's `preprocessor_config.json`, and back.

use std::path::Path;

use bunny_base::files;
use serde_json::{Map, Value, json};

use super::{Aspect, ImageError, ImageProcessor, Kind, RESCALE_FACTOR};

/// The reference's class for EVA-CLIP. It has no configuration of its own; the fields are CLIP's.
const EVA_CLIP: &str = "EvaClipImageTrainProcessor";

/// What LLaVA's class in transformers is called: itself, and as it writes pixels by torchvision and by
/// Pillow.
const LLAVA: [&str; 3] = [
    "LlavaImageProcessor",
    "LlavaImageProcessorFast",
    "LlavaImageProcessorPil",
];

/// PIL's number for bicubic, the one filter that towers here were trained with.
const BICUBIC: u64 = 3;

impl ImageProcessor {
    /// Reads `preprocessor_config.json`, of SigLIP, CLIP or EVA-CLIP. What such a file leaves out has
    /// the value it has in `transformers`.
    ///
    /// # Errors
    /// A file that cannot be read, and any setting that this processor would not follow.
    pub fn from_preprocessor_config(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        read(path)?.processor()
    }

    /// The same of a LLaVA as transformers has it, whose pictures are padded where this file says so and
    /// nowhere else.
    ///
    /// # Errors
    /// As [`from_preprocessor_config`](Self::from_preprocessor_config).
    pub(crate) fn from_llava(path: &Path) -> Result<Self, ImageError> {
        let fields = read(path)?;
        let processor = fields.processor()?;
        Ok(match fields.is_llava() {
            true => processor,
            false => processor.with_aspect(Aspect::Square),
        })
    }

    /// What `preprocessor_config.json` says of this processor in a LLaVA of transformers: its
    /// `LlavaImageProcessor` makes pictures square as Bunny does.
    pub fn llava_config(&self) -> Value {
        let side = self.size;
        let square = json!({"height": side, "width": side});
        let crops = self.kind != Kind::Siglip;
        json!({
            "image_processor_type": LLAVA[0],
            "processor_class": "LlavaProcessor",
            "do_pad": self.aspect == Aspect::Pad,
            "do_convert_rgb": true,
            "do_resize": true,
            "size": if crops { json!({"shortest_edge": side}) } else { square.clone() },
            "resample": BICUBIC,
            "do_center_crop": crops,
            // Where nothing is cropped, too: what counts the tokens of a picture looks here.
            "crop_size": square,
            "do_rescale": true,
            "rescale_factor": RESCALE_FACTOR,
            "do_normalize": true,
            "image_mean": self.mean,
            "image_std": self.std,
        })
    }

    /// What `preprocessor_config.json` says of this processor. What becomes of pictures that are not
    /// square is said in the model's own `config.json`.
    pub fn preprocessor_config(&self) -> Value {
        let side = self.size;
        let square = json!({"height": side, "width": side});
        let mut config = json!({
            "image_processor_type": match self.kind {
                Kind::Siglip => "SiglipImageProcessor",
                Kind::Clip => "CLIPImageProcessor",
                Kind::EvaClip => EVA_CLIP,
            },
            "do_resize": true,
            "do_rescale": true,
            "do_normalize": true,
            "resample": BICUBIC,
            "rescale_factor": RESCALE_FACTOR,
            "image_mean": self.mean,
            "image_std": self.std,
        });
        if self.kind == Kind::Siglip {
            config["size"] = square;
        } else {
            config["size"] = json!({"shortest_edge": side});
            config["do_center_crop"] = json!(true);
            config["crop_size"] = square;
        }
        config
    }
}

struct Fields<'p> {
    path: &'p Path,
    fields: Map<String, Value>,
}

fn read(path: &Path) -> Result<Fields<'_>, ImageError> {
    let text = files::read_to_string(path).map_err(|source| ImageError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut fields: Map<String, Value> =
        serde_json::from_str(&text).map_err(|source| ImageError::Json {
            path: path.to_owned(),
            source,
        })?;
    // `processor_config.json` of transformers 5 has it within.
    if let Some(Value::Object(within)) = fields.remove("image_processor") {
        fields = within;
    }
    Ok(Fields { path, fields })
}

impl Fields<'_> {
    fn processor(&self) -> Result<ImageProcessor, ImageError> {
        let kind = self.kind()?;
        self.expect("resample", "3, bicubic", |value| {
            value.as_u64() == Some(BICUBIC)
        })?;
        for field in ["do_resize", "do_rescale", "do_normalize"] {
            self.expect(field, "true", |value| value == true)?;
        }
        self.expect("rescale_factor", "1/255", |value| {
            value.as_f64() == Some(RESCALE_FACTOR)
        })?;
        let (mut default, crops) = match kind {
            Kind::Siglip => (ImageProcessor::siglip(224), false),
            Kind::Clip | Kind::EvaClip => (ImageProcessor::clip(224), true),
        };
        let is_llava = self.is_llava();
        let pads = self.fields.get("do_pad").is_some_and(|pads| pads == true);
        if is_llava {
            // Whatever its tower is.
            let clip = ImageProcessor::clip(224);
            (default.mean, default.std) = (clip.mean, clip.std);
        } else {
            self.expect("do_pad", "false", |value| value == false)?;
        }
        let is_edge = self
            .fields
            .get("size")
            .is_some_and(|size| size.get("shortest_edge").is_some());
        if is_llava && is_edge && !crops && !pads {
            return Err(self.refuse("size", "a height and a width"));
        }
        self.expect(
            "do_center_crop",
            if crops { "true" } else { "false" },
            |value| value == crops,
        )?;
        let size = self.side("size")?.unwrap_or(default.size);
        if crops && self.side("crop_size")?.unwrap_or(size) != size {
            return Err(self.refuse("crop_size", "the same as `size`"));
        }
        Ok(ImageProcessor {
            kind,
            size,
            mean: self.channels("image_mean", default.mean)?,
            std: self.channels("image_std", default.std)?,
            aspect: if is_llava && !pads {
                Aspect::Square
            } else {
                Aspect::Pad
            },
        })
    }

    /// The class that is named.
    fn class(&self) -> Option<&str> {
        let fields = ["image_processor_type", "feature_extractor_type"];
        let mut said = fields
            .into_iter()
            .filter_map(|field| self.fields.get(field));
        said.next()?.as_str()
    }

    fn is_llava(&self) -> bool {
        self.class().is_some_and(|class| LLAVA.contains(&class))
    }

    fn kind(&self) -> Result<Kind, ImageError> {
        match self.class() {
            Some(
                "SiglipImageProcessor" | "SiglipImageProcessorFast" | "SiglipImageProcessorPil",
            ) => Ok(Kind::Siglip),
            Some(
                "CLIPImageProcessor"
                | "CLIPImageProcessorFast"
                | "CLIPImageProcessorPil"
                | "CLIPFeatureExtractor",
            ) => Ok(Kind::Clip),
            // It crops as CLIP's unless told not to.
            Some(_) if self.is_llava() => match self.fields.get("do_center_crop") {
                Some(Value::Bool(false)) => Ok(Kind::Siglip),
                _ => Ok(Kind::Clip),
            },
            Some(EVA_CLIP) => Ok(Kind::EvaClip),
            _ => Err(self.refuse(
                "image_processor_type",
                "SiglipImageProcessor, CLIPImageProcessor or LlavaImageProcessor",
            )),
        }
    }

    /// A setting that is there has to be what is followed here.
    fn expect(
        &self,
        field: &'static str,
        expected: &'static str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<(), ImageError> {
        match self.fields.get(field) {
            Some(value) if !value.is_null() && !holds(value) => Err(self.refuse(field, expected)),
            _ => Ok(()),
        }
    }

    /// A side: a number, `{"shortest_edge": n}`, or a height and a width that are equal.
    fn side(&self, field: &'static str) -> Result<Option<usize>, ImageError> {
        let Some(value) = self.fields.get(field).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        value
            .as_u64()
            .or_else(|| number("shortest_edge"))
            .or_else(|| number("height").filter(|height| number("width") == Some(*height)))
            .and_then(|side| usize::try_from(side).ok())
            .filter(|side| (1..=MAX_SIZE).contains(side))
            .map(Some)
            .ok_or_else(|| self.refuse(field, "a square of 1 to 8192 pixels"))
    }

    fn channels(&self, field: &'static str, default: [f64; 3]) -> Result<[f64; 3], ImageError> {
        let Some(value) = self.fields.get(field).filter(|value| !value.is_null()) else {
            return Ok(default);
        };
        let numbers: Vec<f64> = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .collect();
        numbers
            .try_into()
            .map_err(|_| self.refuse(field, "three numbers"))
    }

    fn refuse(&self, field: &'static str, expected: &'static str) -> ImageError {
        let found = self
            .fields
            .get(field)
            .map_or("missing".to_owned(), Value::to_string);
        ImageError::Config {
            path: self.path.to_owned(),
            field,
            found,
            expected,
        }
    }
}

/// Sides beyond this are mistakes.
const MAX_SIZE: usize = 8192;
