//! Perturbation sizes as people write them: `"2/255"` or `0.25`, kept as text and as a number.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A perturbation bound in units of the network's real-valued input.
///
/// For images on a 1/255 grid that is a fraction of the pixel range; for standardised MFCC it is in
/// standard deviations of each coefficient. The text is kept so that tables say `2/255`.
#[derive(Clone, Debug, PartialEq)]
pub struct Eps {
    text: String,
    value: f64,
}

impl Eps {
    /// The bound as a number.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// The bound as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Eps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Eps {
    type Err = String;

    /// Reads `a/b` or a decimal number; it must be finite and not negative.
    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |part: &str| part.trim().parse::<f64>().map_err(|_| format!("`{text}` is not a number or a/b"));
        let value = match text.split_once('/') {
            Some((over, under)) => number(over)? / number(under)?,
            None => number(text)?,
        };
        if !value.is_finite() || value < 0.0 {
            return Err(format!("`{text}` is not a finite, non-negative perturbation size"));
        }
        Ok(Self { text: text.trim().to_owned(), value })
    }
}

impl Serialize for Eps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Eps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Eps;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a perturbation size such as \"2/255\" or 0.1")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Eps, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Eps, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Eps, E> {
                value.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_and_decimals_keep_their_text() {
        let eps: Eps = "2/255".parse().unwrap();
        assert_eq!((eps.text(), eps.value()), ("2/255", 2.0 / 255.0));
        assert_eq!("0.25".parse::<Eps>().unwrap().value(), 0.25);
        let json = serde_json::to_string(&eps).unwrap();
        assert_eq!(serde_json::from_str::<Eps>(&json).unwrap(), eps);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a", "1/0", "-1", "1/2/3", "nan", "inf"] {
            assert!(text.parse::<Eps>().is_err(), "{text}");
        }
    }
}
