//! Running other people's programs, and reading what the self-tests say.

use std::io;
use std::path::Path;
use std::process::Command;

use super::{Check, Outcome};

/// What a tool printed, or why it is no use.
pub(super) fn run(command: &mut Command, hint: &str) -> Result<String, Outcome> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) => {
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            // A self-test that found a difference fails, but says what it found.
            if output.status.success() || text.contains("largest difference") {
                Ok(text)
            } else {
                let tail: Vec<&str> = text.lines().rev().take(20).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                Err(Outcome::Failed { reason: format!("{name}: {}", tail.join("\n")) })
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Outcome::Missing { hint: format!("`{name}` is not there: {hint}") })
        }
        Err(error) => Err(Outcome::Failed { reason: format!("{name}: {error}") }),
    }
}

/// Writes files below `dir`.
pub(super) fn write(dir: &Path, files: &[(String, Vec<u8>)]) -> Result<(), Outcome> {
    for (name, bytes) in files {
        let path = dir.join(name);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, bytes))
            .map_err(|error| Outcome::Failed { reason: format!("{}: {error}", path.display()) })?;
    }
    Ok(())
}

/// Reads `… N inputs, largest difference D, …` and `step I: K instructions` lines; instructions are divided by the number of
/// inputs.
pub(super) fn parse(text: &str) -> Outcome {
    let number = |part: &str| part.rsplit(' ').find_map(|word| word.parse::<u64>().ok());
    let Some(line) = text.lines().find(|line| line.contains("largest difference")) else {
        return Outcome::Failed { reason: format!("no verdict in: {}", text.trim()) };
    };
    let mut parts = line.split(", ");
    let inputs = parts.next().and_then(number);
    let largest = parts.next().and_then(number);
    let (Some(inputs @ 1..), Some(largest_difference)) = (inputs, largest) else {
        return Outcome::Failed { reason: format!("not understood: {line}") };
    };
    let steps = text.lines().filter_map(|line| line.strip_prefix("step ")?.strip_suffix(" instructions"));
    let instructions = steps.filter_map(|rest| number(rest).map(|n| n / inputs)).collect();
    Outcome::Ran { inputs, largest_difference, instructions, size: None }
}

/// A check from what running it gave.
pub(super) fn check(target: &str, outcome: Result<Outcome, Outcome>) -> Check {
    Check { target: target.to_owned(), outcome: outcome.unwrap_or_else(|failure| failure) }
}

/// An export that could not be written.
pub(super) fn refused(error: crate::DeployError) -> Outcome {
    Outcome::Failed { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read() {
        let text = "net: 20 inputs, largest difference 3, WRONG\nstep 0: 400 instructions\nstep 1: 41 instructions\n";
        let expected =
            Outcome::Ran { inputs: 20, largest_difference: 3, instructions: vec![20, 2], size: None };
        assert_eq!(parse(text), expected);
        assert!(!check("x", Ok(parse(text))).passed());
        assert!(matches!(parse("Segmentation fault"), Outcome::Failed { .. }));
        assert!(matches!(parse("net: 0 inputs, largest difference 0, ok"), Outcome::Failed { .. }));
    }

    #[test]
    fn a_missing_tool_is_told_from_a_failing_one() {
        let missing = run(&mut Command::new("ternion-has-no-such-tool"), "install it");
        assert!(matches!(missing, Err(Outcome::Missing { hint }) if hint.contains("install it")));
    }
}
