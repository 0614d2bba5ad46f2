//! A processor from a tower's `preprocessor_config.json`, and back.

use std::path::Path;

use bunny_base::files;
use serde_json::{Map, Value, json};

use super::{Aspect, ImageError, ImageProcessor, Kind, RESCALE_FACTOR};

/// The reference's class for EVA-CLIP. It has no configuration of its own; the fields are CLIP's.
const EVA_CLIP: &str = "EvaClipImageTrainProcessor";

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
        Fields { path, fields }.processor()
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
        let (default, crops) = match kind {
            Kind::Siglip => (ImageProcessor::siglip(224), false),
            Kind::Clip | Kind::EvaClip => (ImageProcessor::clip(224), true),
        };
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
            aspect: Aspect::Pad,
        })
    }

    fn kind(&self) -> Result<Kind, ImageError> {
        let field = if self.fields.contains_key("image_processor_type") {
            "image_processor_type"
        } else {
            "feature_extractor_type"
        };
        match self.fields.get(field).and_then(Value::as_str) {
            Some("SiglipImageProcessor" | "SiglipImageProcessorFast") => Ok(Kind::Siglip),
            Some("CLIPImageProcessor" | "CLIPImageProcessorFast" | "CLIPFeatureExtractor") => {
                Ok(Kind::Clip)
            }
            Some(EVA_CLIP) => Ok(Kind::EvaClip),
            _ => Err(self.refuse(
                "image_processor_type",
                "SiglipImageProcessor or CLIPImageProcessor",
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
