//! The text form of quantizers: `name(positional, keyword=value)`, Python's literals accepted ('auto', True, None).

use std::fmt;
use std::ops::RangeInclusive;

use crate::error::ParseError;
use crate::quantizer::Alpha;

/// One argument's value.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    None,
    Flag(bool),
    Number(f64),
    Word(String),
    List(Vec<f64>),
}

/// The arguments of one quantizer, bound to its parameters' names.
pub(crate) struct Arguments {
    name: &'static str,
    parameters: &'static [&'static str],
    values: Vec<Option<(Value, String)>>,
}

/// Splits `name(arguments)` (or a bare `name`) into its two parts.
pub(crate) fn split_call(text: &str) -> Result<(&str, &str), ParseError> {
    let syntax = |why| ParseError::Syntax { text: text.to_owned(), why };
    let trimmed = text.trim();
    let Some((name, rest)) = trimmed.split_once('(') else {
        return Ok((trimmed, ""));
    };
    let inside = rest.strip_suffix(')').ok_or_else(|| syntax("the last character should be `)`"))?;
    Ok((name.trim(), inside))
}

impl Arguments {
    /// Binds `text`, the part between the parentheses, to `parameters` in order or by keyword.
    pub(crate) fn bind(
        name: &'static str,
        parameters: &'static [&'static str],
        text: &str,
    ) -> Result<Self, ParseError> {
        let mut values: Vec<Option<(Value, String)>> = vec![None; parameters.len()];
        let mut positional = 0;
        let pieces =
            pieces(text).map_err(|why| ParseError::Syntax { text: format!("{name}({text})"), why })?;
        for piece in &pieces {
            let (place, raw) = match piece.split_once('=') {
                Some((keyword, raw)) => {
                    let keyword = keyword.trim();
                    let place = parameters.iter().position(|&p| p == keyword);
                    (place.ok_or_else(|| unknown(name, keyword, parameters))?, raw.trim())
                }
                None => {
                    positional += 1;
                    if positional > parameters.len() {
                        return Err(ParseError::TooManyArguments {
                            quantizer: name,
                            most: parameters.len(),
                            got: pieces.len(),
                        });
                    }
                    (positional - 1, *piece)
                }
            };
            if values[place].is_some() {
                return Err(ParseError::Repeated { quantizer: name, keyword: parameters[place].to_owned() });
            }
            let Some(value) = read_value(raw) else {
                return Err(ParseError::BadValue {
                    quantizer: name,
                    keyword: parameters[place],
                    value: raw.to_owned(),
                    expected: "a number, a flag, a word, None or a list of numbers",
                });
            };
            values[place] = Some((value, raw.to_owned()));
        }
        Ok(Arguments { name, parameters, values })
    }

    /// The quantizer's name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    fn get(&self, parameter: &'static str) -> Option<&(Value, String)> {
        let place = self.parameters.iter().position(|&p| p == parameter)?;
        self.values[place].as_ref()
    }

    fn bad<T>(&self, keyword: &'static str, raw: &str, expected: &'static str) -> Result<T, ParseError> {
        Err(ParseError::BadValue { quantizer: self.name, keyword, value: raw.to_owned(), expected })
    }

    /// A whole number within `range`.
    pub(crate) fn integer(
        &self,
        keyword: &'static str,
        default: i32,
        range: RangeInclusive<i32>,
        expected: &'static str,
    ) -> Result<i32, ParseError> {
        match self.get(keyword) {
            None => Ok(default),
            Some((Value::Number(v), _)) if v.fract() == 0.0 && range.contains(&(*v as i32)) => Ok(*v as i32),
            Some((Value::Flag(v), _)) if range.contains(&i32::from(*v)) => Ok(i32::from(*v)),
            Some((_, raw)) => self.bad(keyword, raw, expected),
        }
    }

    /// A finite number for which `holds`.
    pub(crate) fn number(
        &self,
        keyword: &'static str,
        default: f64,
        holds: impl Fn(f64) -> bool,
        expected: &'static str,
    ) -> Result<f64, ParseError> {
        match self.get(keyword) {
            None => Ok(default),
            Some((Value::Number(v), _)) if v.is_finite() && holds(*v) => Ok(*v),
            Some((_, raw)) => self.bad(keyword, raw, expected),
        }
    }

    /// A finite number for which `holds`, or None.
    pub(crate) fn optional_number(
        &self,
        keyword: &'static str,
        holds: impl Fn(f64) -> bool,
        expected: &'static str,
    ) -> Result<Option<f64>, ParseError> {
        match self.get(keyword) {
            None | Some((Value::None, _)) => Ok(None),
            Some(_) => self.number(keyword, 0.0, holds, expected).map(Some),
        }
    }

    /// True, False, 1 or 0.
    pub(crate) fn flag(&self, keyword: &'static str, default: bool) -> Result<bool, ParseError> {
        match self.get(keyword) {
            None => Ok(default),
            Some((Value::Flag(v), _)) => Ok(*v),
            Some((Value::Number(v), _)) if *v == 0.0 || *v == 1.0 => Ok(*v == 1.0),
            Some((_, raw)) => self.bad(keyword, raw, "True, False, 1 or 0"),
        }
    }

    /// The scale rule.
    pub(crate) fn alpha(&self) -> Result<Alpha, ParseError> {
        match self.get("alpha") {
            None | Some((Value::None, _)) => Ok(Alpha::None),
            Some((Value::Number(v), _)) if v.is_finite() => Ok(Alpha::Value(*v)),
            Some((Value::Word(w), _)) if w == "auto" => Ok(Alpha::Auto),
            Some((Value::Word(w), _)) if w == "auto_po2" => Ok(Alpha::AutoPo2),
            Some((_, raw)) => self.bad("alpha", raw, "auto, auto_po2, a number or None"),
        }
    }

    /// One of the words listed.
    pub(crate) fn word(
        &self,
        keyword: &'static str,
        words: &[&'static str],
        expected: &'static str,
    ) -> Result<&'static str, ParseError> {
        match self.get(keyword) {
            None => Ok(words[0]),
            Some((Value::Word(w), raw)) => match words.iter().find(|word| *word == w) {
                Some(word) => Ok(word),
                None => self.bad(keyword, raw, expected),
            },
            Some((_, raw)) => self.bad(keyword, raw, expected),
        }
    }

    /// A non-negative whole number or a list of them; empty for None.
    pub(crate) fn indices(&self, keyword: &'static str) -> Result<Vec<usize>, ParseError> {
        let whole = |v: &f64| *v >= 0.0 && *v < 1e9 && v.fract() == 0.0;
        match self.get(keyword) {
            None | Some((Value::None, _)) => Ok(Vec::new()),
            Some((Value::Number(v), _)) if whole(v) => Ok(vec![*v as usize]),
            Some((Value::List(list), _)) if list.iter().all(whole) => {
                Ok(list.iter().map(|&v| v as usize).collect())
            }
            Some((_, raw)) => self.bad(keyword, raw, "a non-negative whole number or a list of them"),
        }
    }
}

fn unknown(quantizer: &'static str, keyword: &str, parameters: &[&str]) -> ParseError {
    ParseError::UnknownKeyword { quantizer, keyword: keyword.to_owned(), known: parameters.join(", ") }
}

/// Splits at the commas outside brackets and quotes.
fn pieces(text: &str) -> Result<Vec<&str>, &'static str> {
    let mut pieces = Vec::new();
    let (mut start, mut bracket, mut quote) = (0, false, None);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') if !bracket => bracket = true,
            (None, ']') if bracket => bracket = false,
            (None, '[' | ']' | '(' | ')') => return Err("brackets do not match"),
            (None, ',') if !bracket => {
                pieces.push(text[start..i].trim());
                start = i + 1;
            }
            _ => {}
        }
    }
    if quote.is_some() || bracket {
        return Err("a quote or bracket is not closed");
    }
    let last = text[start..].trim();
    if !last.is_empty() {
        pieces.push(last);
    }
    if pieces.iter().any(|piece| piece.is_empty()) {
        return Err("an argument is empty");
    }
    Ok(pieces)
}

fn read_value(raw: &str) -> Option<Value> {
    if let Some(list) = raw.strip_prefix('[').and_then(|r| r.strip_suffix(']')) {
        let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
        return items.map(|item| item.parse().ok()).collect::<Option<Vec<f64>>>().map(Value::List);
    }
    let unquoted = ['\'', '"'].iter().find_map(|&q| raw.strip_prefix(q)?.strip_suffix(q));
    if let Some(word) = unquoted {
        return Some(Value::Word(word.to_owned()));
    }
    match raw {
        "None" | "none" | "null" => return Some(Value::None),
        "True" | "true" => return Some(Value::Flag(true)),
        "False" | "false" => return Some(Value::Flag(false)),
        _ => {}
    }
    if let Ok(number) = raw.parse::<f64>() {
        return Some(Value::Number(number));
    }
    let word = raw.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !raw.is_empty();
    word.then(|| Value::Word(raw.to_owned()))
}

/// Writes `name(positional, keyword=value)`, leaving out keywords at their default.
pub(crate) struct Printer<'a, 'f> {
    formatter: &'a mut fmt::Formatter<'f>,
    result: fmt::Result,
    empty: bool,
}

impl<'a, 'f> Printer<'a, 'f> {
    pub(crate) fn new(formatter: &'a mut fmt::Formatter<'f>, name: &str) -> Self {
        let result = write!(formatter, "{name}(");
        Printer { formatter, result, empty: true }
    }

    fn put(&mut self, argument: fmt::Arguments<'_>) {
        if self.result.is_ok() {
            let comma = if self.empty { "" } else { ", " };
            self.result = write!(self.formatter, "{comma}{argument}");
            self.empty = false;
        }
    }

    pub(crate) fn positional(mut self, value: impl fmt::Display) -> Self {
        self.put(format_args!("{value}"));
        self
    }

    pub(crate) fn keyword<V: fmt::Display + PartialEq>(mut self, name: &str, value: V, default: V) -> Self {
        if value != default {
            self.put(format_args!("{name}={value}"));
        }
        self
    }

    pub(crate) fn flag(self, name: &str, value: bool, default: bool) -> Self {
        self.keyword(name, u8::from(value), u8::from(default))
    }

    pub(crate) fn optional(mut self, name: &str, value: Option<f64>) -> Self {
        if let Some(value) = value {
            self.put(format_args!("{name}={value}"));
        }
        self
    }

    pub(crate) fn alpha(self, alpha: Alpha) -> Self {
        self.keyword("alpha", alpha, Alpha::None)
    }

    pub(crate) fn indices(mut self, name: &str, list: &[usize]) -> Self {
        match list {
            [] => {}
            [one] => self.put(format_args!("{name}={one}")),
            many => self.put(format_args!("{name}={many:?}")),
        }
        self
    }

    pub(crate) fn exponents(self, [lowest, highest]: [Option<i32>; 2]) -> Self {
        self.optional("min_po2_exponent", lowest.map(f64::from))
            .optional("max_po2_exponent", highest.map(f64::from))
    }

    pub(crate) fn finish(self) -> fmt::Result {
        self.result?;
        self.formatter.write_str(")")
    }
}
