//! Shapes and inputs of the kernels' benches; `xtask/peers/kernel_shapes.py` has the same for peers in Python.

/// GEMM shapes `(m, k, n)`: the patches of small convolutional networks, two dense layers and two large products.
pub const GEMMS: [(usize, usize, usize); 11] = [
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
    (128, 4096, 4096),
];

/// 3x3 SAME convolutions of stride 1 `(batch, side, cin, cout)`.
pub const CONVOLUTIONS: [(usize, usize, usize, usize); 9] = [
    (1, 32, 32, 32),
    (1, 16, 64, 64),
    (1, 16, 32, 64),
    (1, 32, 16, 16),
    (1, 16, 128, 128),
    (1, 32, 64, 64),
    (1, 8, 128, 128),
    (1, 32, 3, 32),
    (64, 32, 32, 32),
];

/// Convolutions of which only gradients are timed: the later ones of a batch that is trained on.
pub const TRAINED: [(usize, usize, usize, usize); 2] = [(64, 16, 64, 64), (64, 8, 128, 128)];

/// The name of a GEMM, the same for every peer.
pub fn gemm_name((m, k, n): (usize, usize, usize)) -> String {
    format!("gemm {m}x{k}x{n}")
}

/// The name of a convolution, the same for every peer.
pub fn conv_name((batch, side, ci, co): (usize, usize, usize, usize)) -> String {
    format!("conv3x3 {batch}x{side}x{side} {ci}->{co}")
}

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
    use super::{CONVOLUTIONS, GEMMS, TRAINED, codes, floats, trits};

    #[test]
    fn inputs_cover_their_ranges() {
        assert!((-1..=1).all(|t| trits(100).contains(&t)));
        assert!(floats(1000).iter().all(|f| (-1.0..1.0).contains(f)));
        assert!(codes(2000).contains(&0) && codes(2000).contains(&255));
    }

    #[test]
    fn peers_have_the_same_shapes() {
        let python = include_str!("../../xtask/peers/kernel_shapes.py");
        for shape in GEMMS {
            assert!(python.contains(&format!("{shape:?}")), "{shape:?}");
        }
        for shape in CONVOLUTIONS.into_iter().chain(TRAINED) {
            assert!(python.contains(&format!("{shape:?}")), "{shape:?}");
        }
    }
}
