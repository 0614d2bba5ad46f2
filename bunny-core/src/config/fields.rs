//! Typed access to the fields of a JSON configuration, with errors that name the file and the field.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ConfigError;
use crate::nn::Activation;

/// A JSON object read from a file, asked for its fields by name and type.
///
/// Absent and `null` are the same, as in Python's configurations.
#[derive(Debug, Clone)]
pub struct Fields {
    file: PathBuf,
    prefix: String,
    values: Map<String, Value>,
}

impl Fields {
    /// Reads the JSON object in `file`.
    ///
    /// # Errors
    /// When the file cannot be read, is not JSON, or is not an object.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let file = file.as_ref();
        let text = bunny_base::files::read_to_string(file).map_err(|source| ConfigError::Read {
            file: file.into(),
            source,
        })?;
        Self::parse(file, &text)
    }

    /// Parses the JSON object in `text`; `file` is only named in errors.
    ///
    /// # Errors
    /// When the text is not JSON or not an object.
    pub fn parse(file: impl AsRef<Path>, text: &str) -> Result<Self, ConfigError> {
        let file = file.as_ref().to_path_buf();
        match serde_json::from_str(text) {
            Ok(Value::Object(values)) => Ok(Self {
                file,
                prefix: String::new(),
                values,
            }),
            Ok(_) => Err(ConfigError::NotAnObject { file }),
            Err(source) => Err(ConfigError::Json { file, source }),
        }
    }

    /// The fields of a JSON object; `file` is only named in errors.
    pub fn of(file: impl AsRef<Path>, values: Map<String, Value>) -> Self {
        Self {
            file: file.as_ref().to_path_buf(),
            prefix: String::new(),
            values,
        }
    }

    /// All of them, in the file's order.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The file these fields came from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The object under `field`, if there is one.
    pub fn object(&self, field: &str) -> Result<Option<Self>, ConfigError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(values)) => Ok(Some(Self {
                file: self.file.clone(),
                prefix: format!("{}{field}.", self.prefix),
                values: values.clone(),
            })),
            Some(_) => Err(self.invalid(field, "must be an object")),
        }
    }

    /// An error about `field` of this file.
    pub fn invalid(&self, field: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Field {
            file: self.file.clone(),
            field: format!("{}{field}", self.prefix),
            problem: problem.into(),
        }
    }

    /// The value of `field`; `null` counts as absent.
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.values.get(field).filter(|value| !value.is_null())
    }

    /// A string, if the field is there.
    pub fn string(&self, field: &str) -> Result<Option<&str>, ConfigError> {
        self.typed(field, "a string", Value::as_str)
    }

    /// A truth value, or `default`.
    pub fn boolean(&self, field: &str, default: bool) -> Result<bool, ConfigError> {
        Ok(self
            .typed(field, "true or false", Value::as_bool)?
            .unwrap_or(default))
    }

    /// A number, or `default`.
    pub fn number(&self, field: &str, default: f64) -> Result<f64, ConfigError> {
        let value = self.typed(field, "a number", Value::as_f64)?;
        let value = value.unwrap_or(default);
        if value.is_finite() {
            Ok(value)
        } else {
            Err(self.invalid(field, "must be finite"))
        }
    }

    /// A count within `1..=limit`, or `default`.
    pub fn count(&self, field: &str, default: usize, limit: usize) -> Result<usize, ConfigError> {
        let Some(value) = self.typed(field, "a whole number", Value::as_u64)? else {
            return Ok(default);
        };
        match usize::try_from(value) {
            Ok(count) if (1..=limit).contains(&count) => Ok(count),
            _ => Err(self.invalid(field, format!("is {value}, not within 1 to {limit}"))),
        }
    }

    /// A count within `1..=limit`, which has to be there.
    pub fn needed(&self, field: &str, limit: usize) -> Result<usize, ConfigError> {
        match self.get(field) {
            Some(_) => self.count(field, 0, limit),
            None => Err(self.invalid(field, "is missing")),
        }
    }

    /// A probability in `[0, 1)`, or `default`.
    pub fn share(&self, field: &str, default: f64) -> Result<f64, ConfigError> {
        let value = self.number(field, default)?;
        if (0.0..1.0).contains(&value) {
            Ok(value)
        } else {
            Err(self.invalid(field, format!("is {value}, not within 0 to 1")))
        }
    }

    /// Refuses a file in which one of `features` is on: anything but null and false.
    ///
    /// # Errors
    /// When one is.
    pub fn refuse(&self, features: &[&str]) -> Result<(), ConfigError> {
        let is_on = |feature: &&&str| self.get(feature).is_some_and(|value| *value != false);
        match features.iter().find(is_on) {
            None => Ok(()),
            Some(feature) => Err(ConfigError::NotSupported {
                file: self.file.clone(),
                feature: format!("`{}{feature}`", self.prefix),
            }),
        }
    }

    /// Refuses a file with a switch that is on and that nobody here has thought of: a field that is
    /// `true`, or an object, and for which `is_known` does not hold. Numbers and texts of unknown
    /// fields are passed over, as the reference does.
    ///
    /// # Errors
    /// When there is one.
    pub fn refuse_unknown_switches(
        &self,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<(), ConfigError> {
        let is_switch = |value: &Value| match value {
            Value::Bool(on) => *on,
            Value::Object(object) => !object.is_empty(),
            _ => false,
        };
        let mut fields = self.values.iter();
        match fields.find(|(field, value)| is_switch(value) && !is_known(field)) {
            None => Ok(()),
            Some((field, _)) => Err(self.invalid(
                field,
                "is on, and not known here: leave it out if it changes nothing of the model",
            )),
        }
    }

    /// One token id or a list of them; none when the field is not there.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn token_ids(&self, field: &str) -> Result<Vec<u32>, ConfigError> {
        let Some(Value::Array(ids)) = self.get(field) else {
            return Ok(self.token_id(field)?.into_iter().collect());
        };
        let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
        let ids: Option<Vec<u32>> = ids.iter().map(id).collect();
        ids.ok_or_else(|| self.invalid(field, "must be a token id, or a list of them"))
    }

    /// A token id, if the field is there.
    pub fn token_id(&self, field: &str) -> Result<Option<u32>, ConfigError> {
        let Some(value) = self.typed(field, "a token id", Value::as_u64)? else {
            return Ok(None);
        };
        u32::try_from(value)
            .map(Some)
            .map_err(|_| self.invalid(field, format!("is {value}, too large for a token id")))
    }

    /// A nonlinearity by the name that `transformers` has for it, or `default`.
    ///
    /// # Errors
    /// When the name is unknown.
    pub fn activation(&self, field: &str, default: Activation) -> Result<Activation, ConfigError> {
        match self.string(field)? {
            None => Ok(default),
            Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Ok(Activation::GeluTanh),
            Some("gelu") => Ok(Activation::Gelu),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("quick_gelu") => Ok(Activation::QuickGelu),
            Some(other) => Err(self.invalid(
                field,
                format!("is `{other}`, which is none of gelu_new, gelu_pytorch_tanh, gelu, silu, quick_gelu"),
            )),
        }
    }

    fn typed<'a, T>(
        &'a self,
        field: &str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        self.get(field)
            .map(|value| {
                read(value).ok_or_else(|| self.invalid(field, format!("must be {wanted}")))
            })
            .transpose()
    }
}
