//! Splits Rust source into its code and its comments, so that a check for a word in code is not fooled by prose or strings.

/// A source text twice, line for line and column for column: once with only its code, once with only its comments.
pub(super) struct Source {
    code: String,
    comments: String,
}

impl Source {
    /// Splits `text`. Comments are blank in the code; string and character contents are blank in both.
    pub(super) fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut source = Source { code: String::with_capacity(text.len()), comments: String::new() };
        let mut at = 0;
        while at < chars.len() {
            let (end, part) = next_part(&chars, at);
            // Source that ends inside a literal must not end the checker.
            let end = end.min(chars.len());
            for &c in &chars[at..end] {
                let blank = if c == '\n' { '\n' } else { ' ' };
                source.code.push(if part == Part::Code { c } else { blank });
                source.comments.push(if part == Part::Comment { c } else { blank });
            }
            at = end;
        }
        source
    }

    /// Pairs of (code, comment) by line.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.code.lines().zip(self.comments.lines())
    }
}

#[derive(PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// The part that starts at `at`, and where it ends.
fn next_part(chars: &[char], at: usize) -> (usize, Part) {
    let rest = &chars[at..];
    match rest {
        ['/', '/', ..] => (find(chars, at, |rest| rest[0] == '\n'), Part::Comment),
        ['/', '*', ..] => (block_comment_end(chars, at), Part::Comment),
        ['"', ..] => (string_end(chars, at + 1), Part::Literal),
        // `'\…'` and `'x'` are characters; anything else that opens with a quote is a lifetime.
        ['\'', '\\', _, ..] => (find(chars, at + 3, |rest| rest[0] == '\'') + 1, Part::Literal),
        ['\'', _, '\'', ..] => (at + 3, Part::Literal),
        ['r', '"' | '#', ..] if starts_raw(chars, at) => match raw_hashes(rest) {
            Some(hashes) => (raw_string_end(chars, at + 2 + hashes, hashes), Part::Literal),
            None => (at + 1, Part::Code),
        },
        _ => (at + 1, Part::Code),
    }
}

/// The first index from `at` on where `stop` holds of what follows, or the end.
fn find(chars: &[char], at: usize, stop: impl Fn(&[char]) -> bool) -> usize {
    (at..chars.len()).find(|&i| stop(&chars[i..])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Whether an `r` at `at` opens a word, alone or after the `b` or `c` of a byte or C string.
fn starts_raw(chars: &[char], at: usize) -> bool {
    let word = |i: usize| chars[i].is_alphanumeric() || chars[i] == '_';
    match at {
        0 => true,
        1 => !word(0) || matches!(chars[0], 'b' | 'c'),
        _ => !word(at - 1) || (matches!(chars[at - 1], 'b' | 'c') && !word(at - 2)),
    }
}

/// The number of `#` between `r` and `"`; `None` for a raw identifier.
fn raw_hashes(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
    (rest.get(1 + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_string_end(chars: &[char], at: usize, hashes: usize) -> usize {
    let closes = |rest: &[char]| {
        rest[0] == '"' && rest[1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    find(chars, at, closes) + 1 + hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (String, String) {
        let source = Source::new(text);
        (source.code, source.comments)
    }

    #[test]
    fn code_comments_and_literals_part() {
        #[rustfmt::skip]
        let rows = [
            // text, code, comments
            ("a // b", "a     ", "  // b"),
            ("a /* b /* c */ d */ e", "a                   e", "  /* b /* c */ d */  "),
            (r#"f("// no", x) // yes"#, "f(       , x)       ", "              // yes"),
            (r#""a\"b" c"#, "       c", "        "),
            (r##"r#"a"b"# c"##, "         c", "          "),
            (r##"br#"a"# c"##, "b       c", "         "),
            ("r#type c", "r#type c", "        "),
            ("'\"' a", "    a", "     "),
            ("'\\'' a", "     a", "      "),
            ("'\\u{1F600}' a", "            a", "             "),
            ("&'a str", "&'a str", "       "),
            ("var\"x\"", "var   ", "      "),
            ("\"open", "     ", "     "),
            ("'\\", "'\\", "  "),
        ];
        for (text, code, comments) in rows {
            assert_eq!(split(text), (code.to_owned(), comments.to_owned()), "{text}");
        }
    }

    #[test]
    fn lines_stay_in_step() {
        let source = Source::new("let a = \"x\ny\"; // one\n/* two\nthree */ b");
        let lines: Vec<_> = source.lines().map(|(code, comment)| (code.trim(), comment.trim())).collect();
        assert_eq!(lines, [("let a =", ""), (";", "// one"), ("", "/* two"), ("b", "three */")]);
    }
}
