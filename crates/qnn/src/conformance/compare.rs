//! Tolerances as manifests spell them, and the comparison of a whole tensor within one.

use qtensor::Quantizer;
use qtensor::conformance::Case;
use serde_json::Value;

/// `|got - reference| <= atol + of_largest * max|reference| + rtol * |reference|`
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bound {
    atol: f64,
    of_largest: f64,
    rtol: f64,
}

impl Bound {
    /// `tolerance.<name>` of a case: `{atol, rtol}`, or text such as `atol = 1e-5 + 2e-5*max|ref tensor|, rtol = 2e-4`.
    pub(super) fn of(case: &Case, name: &str) -> Result<Self, String> {
        let found = case.field("tolerance").and_then(|t| t.get(name));
        match found.ok_or_else(|| format!("no tolerance for `{name}`"))? {
            Value::String(text) => Self::parse(text).ok_or_else(|| format!("cannot read tolerance `{text}`")),
            object => {
                let part = |key: &str| object.get(key).and_then(Value::as_f64).unwrap_or(0.0);
                Ok(Self { atol: part("atol"), of_largest: 0.0, rtol: part("rtol") })
            }
        }
    }

    /// An absolute bound.
    pub(super) fn within(atol: f64) -> Self {
        Self { atol, of_largest: 0.0, rtol: 0.0 }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bound = Self::default();
        for clause in text.split(',') {
            let (name, sum) = clause.split_once('=')?;
            for term in sum.split(" + ") {
                let (number, largest) = match term.split_once('*') {
                    Some((number, of)) if of.trim() == "max|ref tensor|" => (number, true),
                    Some(_) => return None,
                    None => (term, false),
                };
                let number: f64 = number.trim().parse().ok()?;
                match (name.trim(), largest) {
                    ("atol", true) => bound.of_largest += number,
                    ("atol", false) => bound.atol += number,
                    ("rtol", false) => bound.rtol += number,
                    _ => return None,
                }
            }
        }
        Some(bound)
    }

    /// The first element out of bounds, in words; otherwise the largest share of its bound that any element uses up.
    pub(super) fn check(&self, name: &str, got: &[f32], reference: &[f32]) -> Result<f64, String> {
        if got.len() != reference.len() {
            return Err(format!("{name}: {} elements, reference has {}", got.len(), reference.len()));
        }
        let largest = reference.iter().filter(|v| v.is_finite()).fold(0f32, |m, v| m.max(v.abs()));
        let mut used = 0f64;
        for (i, (&got, &want)) in got.iter().zip(reference).enumerate() {
            if got.to_bits() == want.to_bits() || got == want || got.is_nan() && want.is_nan() {
                continue;
            }
            let error = (f64::from(got) - f64::from(want)).abs();
            let bound = self.atol + self.of_largest * f64::from(largest) + self.rtol * f64::from(want.abs());
            if !error.is_finite() || error > bound {
                return Err(format!("{name}[{i}]: {got:e}, reference {want:e} +- {bound:.1e}"));
            }
            used = used.max(error / bound);
        }
        Ok(used)
    }
}

/// Quantizers, numbers and switches of a layer's arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<'a>(pub(super) &'a Value);

impl Arguments<'_> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|v| !v.is_null())
    }

    /// A quantizer by its text; absent or null is none.
    pub(super) fn quantizer(&self, name: &str) -> Result<Option<Quantizer>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| format!("`{name}` is not text"))?;
        text.parse().map(Some).map_err(|e: qtensor::ParseError| e.to_string())
    }

    /// As [`Self::quantizer`], with the default of an argument that is not given at all (null is none).
    pub(super) fn quantizer_or(&self, name: &str, default: &str) -> Result<Option<Quantizer>, String> {
        match self.0.get(name) {
            None => default.parse().map(Some).map_err(|e: qtensor::ParseError| e.to_string()),
            Some(_) => self.quantizer(name),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        match self.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(number) => number.as_i64().map_or(default, |n| n != 0),
            None => default,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_f64()
    }

    /// A pair such as strides: two numbers, or one for both.
    pub(super) fn pair(&self, name: &str) -> Result<Option<[usize; 2]>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n < 1 << 16);
        let pair = match value {
            Value::Array(list) => match list.as_slice() {
                [a, b] => number(a).zip(number(b)),
                _ => None,
            },
            one => number(one).map(|n| (n, n)),
        };
        pair.map(|(a, b)| Some([a, b])).ok_or_else(|| format!("`{name}` is no pair of sizes: {value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerances_in_words_are_read() {
        let bound = Bound::parse("atol = 1e-5 + 2e-5*max|ref tensor|, rtol = 2e-4").unwrap();
        assert_eq!(bound, Bound { atol: 1e-5, of_largest: 2e-5, rtol: 2e-4 });
        assert_eq!(Bound::parse("atol = 2e-3*max|ref tensor|, rtol=2e-3").unwrap().rtol, 2e-3);
        for wrong in ["", "atol", "atol = x", "ptol = 1", "atol = 2*min|x|"] {
            assert_eq!(Bound::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let bound = Bound { atol: 0.0, of_largest: 0.1, rtol: 0.0 };
        assert_eq!(bound.check("y", &[1.0, f32::NAN, 10.5], &[1.0, f32::NAN, 10.0]), Ok(0.5));
        assert!(bound.check("y", &[2.1, 10.0], &[1.0, 10.0]).unwrap_err().starts_with("y[0]"));
        assert!(bound.check("y", &[f32::NAN], &[1.0]).is_err());
        assert!(bound.check("y", &[f32::INFINITY], &[1.0]).is_err());
        assert!(bound.check("y", &[], &[1.0]).is_err());
    }
}
