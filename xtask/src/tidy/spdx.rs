//! SPDX licence expressions: whether an expression can be satisfied by a list of allowed licences.
//!
//! Grammar: SPDX specification 2.3, annex D, plus the `/` that old manifests write for `OR`.

/// Whether `expression` can be satisfied with licences of `allowed`; an error says what could not be read.
///
/// `X WITH Y` is allowed where `X` is: an exception only grants more.
pub(super) fn satisfied(expression: &str, allowed: &[String]) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { tokens: spaced.split_whitespace().collect(), at: 0, allowed };
    let result = parser.any()?;
    match parser.peek() {
        None => Ok(result),
        Some(token) => Err(format!("unexpected `{token}`")),
    }
}

struct Parser<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    allowed: &'a [String],
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn take(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    /// `all {OR all}`
    fn any(&mut self) -> Result<bool, String> {
        let mut result = self.all()?;
        while self.take("OR") {
            result |= self.all()?;
        }
        Ok(result)
    }

    /// `one {AND one}`
    fn all(&mut self) -> Result<bool, String> {
        let mut result = self.one()?;
        while self.take("AND") {
            result &= self.one()?;
        }
        Ok(result)
    }

    /// `( any )` or `LICENCE [WITH EXCEPTION]`
    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let result = self.any()?;
            return if self.take(")") { Ok(result) } else { Err("a `(` is never closed".into()) };
        }
        let is_id = |token: &str| {
            !token.is_empty() && token.chars().all(|c| c.is_ascii_alphanumeric() || "-.+:".contains(c))
        };
        let licence = self.next().ok_or("it ends where a licence is expected")?;
        if !is_id(licence) || ["AND", "OR", "WITH"].contains(&licence) {
            return Err(format!("`{licence}` where a licence is expected"));
        }
        if self.take("WITH") && !self.next().is_some_and(is_id) {
            return Err("no exception after `WITH`".into());
        }
        Ok(self.allowed.iter().any(|allowed| allowed == licence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(String::from);
        let rows: &[(&str, Option<bool>)] = &[
            ("MIT", Some(true)),
            ("MIT OR Apache-2.0", Some(true)),
            ("MIT/Apache-2.0", Some(true)),
            ("GPL-3.0-only", Some(false)),
            ("GPL-3.0-only OR MIT", Some(true)),
            ("GPL-3.0-only AND MIT", Some(false)),
            ("MIT OR GPL-2.0 AND GPL-3.0", Some(true)),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", Some(true)),
            ("(MIT OR Apache-2.0) AND NCSA", Some(false)),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", Some(true)),
            ("MITX", Some(false)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT)", None),
            ("MIT Apache-2.0", None),
            ("Apache-2.0 WITH", None),
        ];
        for (expression, expected) in rows {
            assert_eq!(satisfied(expression, &allowed).ok(), *expected, "{expression}");
        }
    }
}
