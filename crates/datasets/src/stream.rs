//! Keyed random streams: every draw of this crate is a pure function of (seed, purpose, index), so that order of work
//! and number of threads never change the data.
use rand::RngCore;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream is for; two purposes never share random numbers. The numbers are part of the data's definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Choice of the validation images among CIFAR-10's training images.
    ValidationSplit = 1,
    /// Choice of a subset of a split.
    Subset = 2,
    /// Augmentation of sample `b` in epoch `a`.
    Augmentation = 3,
    /// Embedded image `b`.
    Shape = 4,
    /// Embedded word `b`.
    Keyword = 5,
    /// Embedded background noise recording `b`.
    Noise = 6,
    /// Choice of the unknown words of split `a`.
    UnknownWords = 7,
}

/// ChaCha8 whose 256-bit key is simply (seed, purpose, index).
pub(crate) fn stream(seed: u64, purpose: Purpose, index: [u64; 2]) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (chunk, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, index[0], index[1]]) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Draws whose value for given bits is fixed here, so that an update of `rand` cannot change the data.
pub(crate) trait Draw: RngCore {
    /// Uniform in [0, 1), 24 bits.
    fn unit(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// Uniform in [low, high).
    fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform integer in 0..n (n > 0); bias below n / 2^32.
    fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.next_u32()) * n as u64) >> 32) as usize
    }

    /// True with probability p. Always draws, so later draws do not depend on p.
    fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }
}

impl<R: RngCore> Draw for R {}

/// Fisher-Yates shuffle.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut impl RngCore) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.below(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_by_every_part_of_the_key() {
        let first = |seed, purpose, index| stream(seed, purpose, index).next_u64();
        let base = first(1, Purpose::Shape, [2, 3]);
        assert_eq!(base, first(1, Purpose::Shape, [2, 3]));
        for other in [
            first(2, Purpose::Shape, [2, 3]),
            first(1, Purpose::Keyword, [2, 3]),
            first(1, Purpose::Shape, [3, 3]),
            first(1, Purpose::Shape, [2, 4]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut items, &mut stream(0, Purpose::Subset, [0, 0]));
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
