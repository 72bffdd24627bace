//! The embedded sets: two classification tasks made by code, in the form of CIFAR-10 and of Speech Commands, for machines
//! without data.
mod difficulty;
mod keywords;
mod phonemes;
mod shapes;
mod silhouette;

pub use keywords::keywords;
pub use shapes::shapes;

/// Samples per split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Samples to learn from.
    pub train: usize,
    /// Samples to choose by.
    pub validation: usize,
    /// Samples to report on.
    pub test: usize,
}

impl Default for Sizes {
    /// 4,000 / 500 / 1,000.
    fn default() -> Self {
        Sizes { train: 4_000, validation: 500, test: 1_000 }
    }
}
