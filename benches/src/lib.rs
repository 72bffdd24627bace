//! Shapes and inputs shared by the criterion benches.
//!
//! Throughput is counted in multiply-accumulates, so criterion's `Gelem/s` reads as GMAC/s.
#![forbid(unsafe_code)]

/// The README's examples, which this makes tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// GEMM shapes `(m, k, n)`: the patches of small convolutional networks, two dense layers and two large products.
pub const GEMMS: [(usize, usize, usize); 10] = [
    (1024, 27, 32),
    (1024, 288, 32),
    (256, 288, 64),
    (256, 576, 64),
    (64, 576, 128),
    (64, 1152, 128),
    (1, 2048, 10),
    (125, 64, 64),
    (512, 512, 512),
    (1, 4096, 4096),
];

/// 3x3 SAME convolutions `(batch, side, cin, cout, stride)`.
pub const CONVOLUTIONS: [(usize, usize, usize, usize, usize); 8] = [
    (1, 32, 3, 32, 1),
    (1, 32, 16, 16, 1),
    (1, 32, 32, 32, 1),
    (1, 16, 64, 64, 1),
    (1, 16, 128, 128, 1),
    (1, 8, 128, 128, 1),
    (16, 16, 32, 32, 1),
    (16, 16, 32, 64, 2),
];

/// Codes that look random.
pub fn codes(len: usize) -> Vec<u8> {
    mixed(len).map(|m| m as u8).collect()
}

/// Trits, half of them zero.
pub fn trits(len: usize) -> Vec<i8> {
    mixed(len).map(|m| [0, 1, 0, -1][m as usize & 3]).collect()
}

/// Floats in [-1, 1).
pub fn floats(len: usize) -> Vec<f32> {
    mixed(len).map(|m| m as f32 / (1_u32 << 15) as f32 - 1.0).collect()
}

/// 16-bit numbers that look random (Knuth's multiplicative hash).
fn mixed(len: usize) -> impl Iterator<Item = u32> {
    (0..len as u32).map(|i| i.wrapping_add(1).wrapping_mul(2_654_435_761) >> 16)
}

#[cfg(test)]
mod tests {
    #[test]
    fn inputs_cover_their_ranges() {
        assert!((-1..=1).all(|t| super::trits(100).contains(&t)));
        assert!(super::floats(1000).iter().all(|f| (-1.0..1.0).contains(f)));
        assert!(super::codes(2000).contains(&0) && super::codes(2000).contains(&255));
    }
}
