//! Stage keys: SHA-256 over canonical JSON of everything a stage's result depends on.
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Stage;

/// The identity of one stage's result: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// The key of `stage` for `inputs`, which must hold all the result depends on, keys of earlier stages included.
    pub fn of(stage: Stage, inputs: &Value) -> Self {
        let mut text = format!("{} {}\n", stage.name(), stage.version());
        canonical(inputs, &mut text);
        Self(hex(Sha256::digest(text.as_bytes()).as_slice()))
    }

    /// The first 16 digits, which name the folder.
    pub fn short(&self) -> &str {
        self.0.get(..16).unwrap_or(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends `value` as JSON without spaces and with object keys in byte order, so that equal values give equal text.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn file_digest(path: &Path) -> std::io::Result<String> {
    Ok(hex(Sha256::digest(std::fs::read(path)?).as_slice()))
}

/// SHA-256 of bytes, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn canonical_text_ignores_key_order_only() {
        let text = |value: &Value| {
            let mut out = String::new();
            canonical(value, &mut out);
            out
        };
        let (a, b): (Value, Value) = (
            serde_json::from_str(r#"{"b": [1, 2.5, "x\"y"], "a": null}"#).unwrap(),
            serde_json::from_str(r#"{"a":null,"b":[1,2.5,"x\"y"]}"#).unwrap(),
        );
        assert_eq!(text(&a), r#"{"a":null,"b":[1,2.5,"x\"y"]}"#);
        assert_eq!(Key::of(Stage::Train, &a), Key::of(Stage::Train, &b));
        assert_ne!(Key::of(Stage::Train, &a), Key::of(Stage::Attack, &a));
        assert_ne!(
            Key::of(Stage::Train, &a),
            Key::of(Stage::Train, &json!({"a": null, "b": [2.5, 1, "x\"y"]}))
        );
        assert_eq!(Key::of(Stage::Data, &a).short().len(), 16);
    }

    #[test]
    fn digest_is_sha_256() {
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
