//! The text form of an attack: `name(key=value, ...)`, read strictly and printed in full.

use std::fmt::Display;
use std::str::FromStr;

use crate::error::ParseError;

/// The `key=value` pairs of one attack, taken one by one; what is left over is an error.
pub(crate) struct Fields<'t> {
    text: &'t str,
    pairs: Vec<(&'t str, &'t str)>,
    known: Vec<&'static str>,
}

/// Splits `name(key=value, ...)`; the parentheses may be missing.
pub(crate) fn split(text: &str) -> Result<(&str, Fields<'_>), ParseError> {
    let text = text.trim();
    let (name, inner) = match text.split_once('(') {
        None => (text, ""),
        Some((name, rest)) => {
            let inner = rest.strip_suffix(')').ok_or_else(|| ParseError::new(text, "missing `)`"))?;
            (name.trim(), inner)
        }
    };
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for part in inner.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| ParseError::new(text, format!("`{part}` is not of the form key=value")))?;
        let (key, value) = (key.trim(), value.trim());
        if pairs.iter().any(|(k, _)| *k == key) {
            return Err(ParseError::new(text, format!("`{key}` is given twice")));
        }
        pairs.push((key, value));
    }
    Ok((name, Fields { text, pairs, known: Vec::new() }))
}

impl<'t> Fields<'t> {
    /// The raw value of a key that is not a parameter (`preset`).
    pub(crate) fn raw(&mut self, key: &'static str) -> Option<&'t str> {
        let i = self.pairs.iter().position(|(k, _)| *k == key)?;
        Some(self.pairs.remove(i).1)
    }

    /// The value of `key`, or `default` when it is not given.
    pub(crate) fn take<T: FromStr<Err: Display>>(
        &mut self,
        key: &'static str,
        default: T,
    ) -> Result<T, ParseError> {
        self.known.push(key);
        match self.raw(key) {
            None => Ok(default),
            Some(value) => {
                value.parse().map_err(|e| ParseError::new(self.text, format!("{key} = `{value}`: {e}")))
            }
        }
    }

    /// Fails when a key was not taken.
    pub(crate) fn finish(self) -> Result<(), ParseError> {
        match self.pairs.first() {
            None => Ok(()),
            Some((key, _)) => Err(ParseError::new(
                self.text,
                format!("unknown parameter `{key}`, known: {}", self.known.join(", ")),
            )),
        }
    }
}

/// Declares an attack's parameters: the struct, its defaults and both directions of its text form.
macro_rules! parameters {
    ($(#[$meta:meta])* $name:ident = $text:literal {
        $($(#[$field_meta:meta])* $field:ident: $ty:ty = $default:expr,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            /// The attack's name in text.
            pub const NAME: &'static str = $text;

            pub(crate) fn read(base: Self, fields: &mut crate::text::Fields<'_>) -> Result<Self, crate::ParseError> {
                Ok(Self { $($field: fields.take(stringify!($field), base.$field)?,)* })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let fields: &[(&str, &dyn std::fmt::Display)] = &[$((stringify!($field), &self.$field),)*];
                write!(f, "{}(", $text)?;
                for (i, (key, value)) in fields.iter().enumerate() {
                    write!(f, "{}{key}={value}", if i == 0 { "" } else { ", " })?;
                }
                write!(f, ")")
            }
        }
    };
}
pub(crate) use parameters;

/// Declares an enum of words that prints and parses, also through serde.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)*
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::ParseError;
            fn from_str(text: &str) -> Result<Self, crate::ParseError> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(crate::ParseError::new(text, format!("expected one of {}", [$($text),*].join(", ")))),
                }
            }
        }
    };
}
pub(crate) use words;
