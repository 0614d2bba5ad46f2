//! Tables of the fields of a configuration file, each read and written by one entry.

use serde_json::{Map, Value};

use super::{ConfigError, Fields};

/// What takes a setting from a file.
type Read<C> = fn(&Fields, &mut C) -> Result<(), ConfigError>;

/// A field of a configuration file, and the setting of a `C` that it is.
pub(super) struct Field<C: 'static> {
    /// What it is called in the file.
    pub name: &'static str,
    /// Takes the setting from the file, if it is read at all; what the file leaves out stays as it is.
    pub read: Option<Read<C>>,
    /// The setting as the file says it.
    pub write: fn(&C) -> Value,
}

impl<C: 'static> std::fmt::Debug for Field<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Reads every field of a table, in its order.
pub(super) fn read<C>(
    table: &[Field<C>],
    fields: &Fields,
    config: &mut C,
) -> Result<(), ConfigError> {
    let mut reads = table.iter().filter_map(|field| field.read);
    reads.try_for_each(|read| read(fields, config))
}

/// Writes every field of a table to `json`, in its order. What `said`, the file as it was, says of a
/// setting in other words stays as it was said.
pub(super) fn write<C: Clone>(
    table: &[Field<C>],
    config: &C,
    said: Option<&Fields>,
    json: &mut Map<String, Value>,
) {
    for field in table {
        let value = (field.write)(config);
        let is_said = said.is_some_and(|said| {
            let mut again = config.clone();
            said.get(field.name).is_some()
                && field
                    .read
                    .is_some_and(|read| read(said, &mut again).is_ok())
                && (field.write)(&again) == value
        });
        if !is_said {
            json.insert(field.name.into(), value);
        }
    }
}

/// An entry of a table:
///
/// ```text
/// field!("name" => setting, count up to LIMIT)   within 1 to LIMIT
/// field!("name" => setting, needed up to LIMIT)  the same, and a file without it is refused
/// field!("name" => setting, number)              any finite number
/// field!("name" => setting, share)               a probability below 1
/// field!("name" => setting, flag)                true or false
/// field!("name" => setting, activation)          a nonlinearity
/// field!("name" says value)                      always this, and nothing to read
/// ```
macro_rules! field {
    ($name:literal => $($setting:ident).+, count up to $limit:expr) => {
        field!(@ $name, $($setting).+, |fields, old| fields.count($name, old, $limit))
    };
    ($name:literal => $($setting:ident).+, needed up to $limit:expr) => {
        field!(@ $name, $($setting).+, |fields, _| fields.needed($name, $limit))
    };
    ($name:literal => $($setting:ident).+, number) => {
        field!(@ $name, $($setting).+, |fields, old| fields.number($name, old))
    };
    ($name:literal => $($setting:ident).+, share) => {
        field!(@ $name, $($setting).+, |fields, old| fields.share($name, old))
    };
    ($name:literal => $($setting:ident).+, flag) => {
        field!(@ $name, $($setting).+, |fields, old| fields.boolean($name, old))
    };
    ($name:literal => $($setting:ident).+, activation) => {
        $crate::config::table::Field {
            name: $name,
            read: Some(|fields, config| {
                config.$($setting).+ = fields.activation($name, config.$($setting).+)?;
                Ok(())
            }),
            write: |config| config.$($setting).+.name().into(),
        }
    };
    ($name:literal says $value:expr) => {
        $crate::config::table::Field {
            name: $name,
            read: None,
            write: $value,
        }
    };
    (@ $name:literal, $($setting:ident).+, |$fields:ident, $old:pat_param| $read:expr) => {
        $crate::config::table::Field {
            name: $name,
            read: Some(|$fields, config| {
                let $old = config.$($setting).+;
                config.$($setting).+ = $read?;
                Ok(())
            }),
            write: |config| config.$($setting).+.into(),
        }
    };
}

pub(super) use field;
