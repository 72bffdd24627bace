//! Keyed random streams: everything random in the workspace is a pure function of (seed, purpose, index), so that results
//! do not depend on thread count, machine count or what else was drawn before.

use rand::{RngCore, SeedableRng};
pub use rand_chacha::ChaCha8Rng;

use crate::math;

/// What a stream is for. Two purposes never share numbers, whatever the seed and index. The discriminants are part of every
/// published result: add, never renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Initial latent weights; index: parameter.
    Weights = 1,
    /// Order of the samples in an epoch; index: epoch.
    BatchOrder = 2,
    /// Augmentation of one sample; index: epoch, sample id.
    Augmentation = 3,
    /// Draws of a stochastic quantizer; index: step, layer (and shard for activations).
    Quantizer = 4,
    /// Adversarial attack on one sample; index: attack, sample id, restart.
    Attack = 5,
    /// Random projection of Jacobian regularisation; index: step, shard.
    Projection = 6,
    /// Dropout mask; index: step, layer, shard.
    Dropout = 7,
    /// Splitting a dataset or choosing a subset; index: split.
    Split = 8,
    /// Generated datasets; index: sample id.
    Synthetic = 9,
    /// Resampling for confidence intervals; index: resample.
    Bootstrap = 10,
    /// Background noise mixed into audio; index: epoch, sample id.
    Noise = 11,
    /// Anything a test draws.
    Test = 255,
}

/// The ChaCha8 generator of (seed, purpose, index).
///
/// With up to three indices the packing is injective: the 256-bit key is the little-endian words
/// `[seed, purpose + 2^32 * index.len(), index[0], index[1]]` and the 64-bit nonce (ChaCha's stream) is `index[2]`, absent
/// ones being 0. Every further group of three indices `(a, b, c)` takes the first four words of the stream so far as the
/// new key, xors `a` and `b` into its first two words and uses `c` as nonce.
pub fn stream(seed: u64, purpose: Purpose, index: &[u64]) -> ChaCha8Rng {
    let (first, rest) = index.split_at(index.len().min(3));
    let part = |group: &[u64], i: usize| group.get(i).copied().unwrap_or(0);
    let tag = purpose as u64 | (index.len() as u64) << 32;
    let mut rng = keyed([seed, tag, part(first, 0), part(first, 1)], part(first, 2));
    for group in rest.chunks(3) {
        let mut key = [rng.next_u64(), rng.next_u64(), rng.next_u64(), rng.next_u64()];
        key[0] ^= part(group, 0);
        key[1] ^= part(group, 1);
        rng = keyed(key, part(group, 2));
    }
    rng
}

fn keyed(words: [u64; 4], nonce: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(nonce);
    rng
}

/// Fills `out` with random words, in the order `next_u32` would give them; much faster than one at a time.
pub fn fill_words(rng: &mut ChaCha8Rng, out: &mut [u32]) {
    let mut bytes = [0u8; 1024];
    for chunk in out.chunks_mut(256) {
        let bytes = &mut bytes[..4 * chunk.len()];
        rng.fill_bytes(bytes);
        for (word, four) in chunk.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        }
    }
}

/// A random word as a number in [0, 1): its upper 24 bits over 2^24, exact in f32.
#[inline(always)]
pub fn unit_f32(word: u32) -> f32 {
    // Through i32, for which every target has a vector conversion.
    (word >> 8) as i32 as f32 * (1.0 / 16_777_216.0)
}

/// Uniform in [0, 1) with 24 random bits.
pub fn uniform_f32(rng: &mut ChaCha8Rng) -> f32 {
    unit_f32(rng.next_u32())
}

/// Uniform in [0, 1) with 53 random bits.
pub fn uniform_f64(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
}

/// Two independent standard normals (Marsaglia's polar method; the same bits on every machine).
pub fn normal_pair(rng: &mut ChaCha8Rng) -> [f64; 2] {
    loop {
        let u = 2.0 * uniform_f64(rng) - 1.0;
        let v = 2.0 * uniform_f64(rng) - 1.0;
        let s = u * u + v * v;
        if s > 0.0 && s < 1.0 {
            let factor = (-2.0 * math::ln(s) / s).sqrt();
            return [u * factor, v * factor];
        }
    }
}

/// Fills `out` with standard normals. A longer slice starts with the same numbers; an odd last one discards its partner.
pub fn fill_normal(rng: &mut ChaCha8Rng, out: &mut [f32]) {
    for pair in out.chunks_mut(2) {
        for (value, normal) in pair.iter_mut().zip(normal_pair(rng)) {
            *value = normal as f32;
        }
    }
}

/// Fills `out` with uniform numbers in [lo, hi).
pub fn fill_uniform(rng: &mut ChaCha8Rng, lo: f32, hi: f32, out: &mut [f32]) {
    for value in out {
        let drawn = lo + (hi - lo) * uniform_f32(rng);
        // The sum can round up to hi itself.
        *value = if drawn < hi { drawn } else { lo };
    }
}

/// Uniform integer in 0..bound without bias (Lemire 2019); 0 for a bound of 0 or 1.
pub fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    if bound < 2 {
        return 0;
    }
    let rejected = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        if product as u32 >= rejected {
            return (product >> 32) as u32;
        }
    }
}

/// Uniform random permutation in place (Fisher-Yates from the end). At most 2^32 - 1 items take part.
pub fn shuffle<I>(rng: &mut ChaCha8Rng, items: &mut [I]) {
    let count = items.len().min(u32::MAX as usize);
    for i in (1..count).rev() {
        items.swap(i, below(rng, i as u32 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::{Purpose, below, fill_normal, fill_words, shuffle, stream};
    use proptest::prelude::*;
    use rand::RngCore;
    use std::collections::HashSet;

    fn head(seed: u64, purpose: Purpose, index: &[u64]) -> u64 {
        stream(seed, purpose, index).next_u64()
    }

    #[test]
    fn the_packing_is_pinned() {
        // Published results depend on these words.
        let heads = [
            head(0, Purpose::Weights, &[]),
            head(7, Purpose::Quantizer, &[1, 2]),
            head(7, Purpose::Attack, &[1, 2, 3, 4, 5]),
        ];
        assert_eq!(heads, [4_606_029_925_845_525_861, 2_817_782_088_780_722_048, 5_225_713_480_814_326_676]);
    }

    #[test]
    fn neighbouring_inputs_give_different_streams() {
        let mut seen = HashSet::new();
        let mut count = 0;
        for seed in [0u64, 1, 2, u64::MAX] {
            for purpose in [Purpose::Weights, Purpose::Quantizer, Purpose::Attack, Purpose::Dropout] {
                let mut indices: Vec<Vec<u64>> = vec![vec![]];
                for length in 1..=5 {
                    for a in 0..4u64 {
                        for place in 0..length {
                            let mut index = vec![0u64; length];
                            index[place] = a + 1;
                            indices.push(index);
                        }
                    }
                    indices.push(vec![0; length]);
                }
                for index in indices {
                    seen.insert(head(seed, purpose, &index));
                    count += 1;
                }
            }
        }
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn normals_have_the_right_moments() {
        let mut rng = stream(1, Purpose::Test, &[]);
        let mut x = vec![0f32; 200_000];
        fill_normal(&mut rng, &mut x);
        let n = x.len() as f64;
        let moment = |k: i32| x.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n;
        assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.015);
        assert!(moment(3).abs() < 0.05 && (moment(4) - 3.0).abs() < 0.1);
    }

    proptest! {
        #[test]
        fn a_longer_draw_begins_like_a_shorter_one(seed: u64, n in 1usize..700, more in 0usize..300) {
            let draw = |n: usize| {
                let mut out = vec![0u32; n];
                fill_words(&mut stream(seed, Purpose::Test, &[3]), &mut out);
                let mut normal = vec![0f32; n];
                fill_normal(&mut stream(seed, Purpose::Test, &[4]), &mut normal);
                (out, normal)
            };
            let (short, long) = (draw(n), draw(n + more));
            prop_assert_eq!(&short.0[..], &long.0[..n]);
            prop_assert_eq!(&short.1[..], &long.1[..n]);
            let mut one_by_one = stream(seed, Purpose::Test, &[3]);
            prop_assert!(short.0.iter().all(|&w| w == one_by_one.next_u32()));
        }

        #[test]
        fn shuffling_permutes_and_bounds_hold(seed: u64, n in 0usize..200) {
            let mut rng = stream(seed, Purpose::Test, &[]);
            let mut items: Vec<usize> = (0..n).collect();
            shuffle(&mut rng, &mut items);
            items.sort_unstable();
            prop_assert!(items.iter().enumerate().all(|(i, &v)| i == v));
            prop_assert!(below(&mut rng, n as u32 + 1) <= n as u32);
        }
    }
}
