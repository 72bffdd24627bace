//! Writing programs for elsewhere: C99, a Rust crate without `std`, and ONNX.

pub mod c;
pub mod onnx;
pub mod rust;
pub(crate) mod tile;

use crate::program::Program;
use crate::{DeployError, Engine};

/// Inputs that come with an export, and the logits the host engine gives for them: what the export's self-test runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Codes `[n, h, w, c]`.
    pub inputs: Vec<u8>,
    /// Logit accumulators `[n, classes]`.
    pub logits: Vec<i32>,
}

/// Number of inputs in a self-test.
pub const SAMPLES: usize = 20;

impl Samples {
    /// [`SAMPLES`] inputs that no file is needed for: uniform codes, smooth ramps and constant ones, so that saturated and
    /// empty channels occur as well.
    ///
    /// # Errors
    /// A program that does not run.
    pub fn of_program(program: &Program) -> Result<Self, DeployError> {
        let len = program.input_len();
        let mut inputs = Vec::with_capacity(SAMPLES * len);
        let mut state = 0x9e37_79b9_u32;
        for sample in 0..SAMPLES {
            inputs.extend((0..len).map(|i| {
                // Marsaglia's xorshift32: the codes only have to be varied and the same everywhere.
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                match sample % 5 {
                    0..=2 => (state >> 11) as u8,
                    3 => ((i * (sample + 1)) / 7 + (state >> 29) as usize) as u8,
                    _ => (sample * 13) as u8,
                }
            }));
        }
        Self::new(program, inputs)
    }

    /// The given inputs, with the logits of the host engine.
    ///
    /// # Errors
    /// Inputs that are no whole number of samples.
    pub fn new(program: &Program, inputs: Vec<u8>) -> Result<Self, DeployError> {
        let engine = Engine::new(program.clone())?;
        let n = inputs.len() / program.input_len();
        let mut logits = vec![0; n * program.classes];
        engine.logits(&inputs, n, &mut logits)?;
        Ok(Self { inputs, logits })
    }
}

/// A network's name as an identifier of C and Rust.
pub fn identifier(name: &str) -> String {
    let mut text: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        text.insert_str(0, "net_");
    }
    text
}
