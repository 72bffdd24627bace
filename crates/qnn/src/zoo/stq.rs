//! The `stq_image` and `stq_audio` networks: plain convolution stacks in which every kernel is quantized.

use super::{Quantizers, Size};
use crate::network::{InputGrid, Network};

/// Two 3x3 convolutions and a 2x2 pool, three times over, then a dense layer; widths 32-64-128 (`S`) or 72-144-288 (`L`).
///
/// | stage | S: out, weights | L: out, weights |
/// |---|---|---|
/// | conv1, conv2, pool | 16x16x32, 864 + 9,216 | 16x16x72, 1,944 + 46,656 |
/// | conv3, conv4, pool | 8x8x64, 18,432 + 36,864 | 8x8x144, 93,312 + 186,624 |
/// | conv5, conv6, pool | 4x4x128, 73,728 + 147,456 | 4x4x288, 373,248 + 746,496 |
/// | logits | 10, 20,480 | 10, 46,080 |
pub fn stq_image(size: Size, input: [usize; 3], grid: InputGrid, classes: usize, q: &Quantizers) -> Network {
    let (name, widths) = match size {
        Size::S => ("stq_image_s", [32, 64, 128]),
        Size::L => ("stq_image_l", [72, 144, 288]),
    };
    stack(Network::new(name, input, grid, classes), &widths, q)
}

/// The same stack on 49x10 MFCC frames: widths 32-64 (`S`) or 64-128-256 (`L`).
///
/// | stage | S: out, weights | L: out, weights |
/// |---|---|---|
/// | conv1, conv2, pool | 24x5x32, 288 + 9,216 | 24x5x64, 576 + 36,864 |
/// | conv3, conv4, pool | 12x2x64, 18,432 + 36,864 | 12x2x128, 73,728 + 147,456 |
/// | conv5, conv6, pool | - | 6x1x256, 294,912 + 589,824 |
/// | logits | 12, 18,432 | 12, 18,432 |
pub fn stq_audio(size: Size, input: [usize; 3], grid: InputGrid, classes: usize, q: &Quantizers) -> Network {
    let (name, widths): (_, &[usize]) = match size {
        Size::S => ("stq_audio_s", &[32, 64]),
        Size::L => ("stq_audio_l", &[64, 128, 256]),
    };
    stack(Network::new(name, input, grid, classes), widths, q)
}

fn stack(mut net: Network, widths: &[usize], q: &Quantizers) -> Network {
    for (stage, &width) in widths.iter().enumerate() {
        for half in 1..=2 {
            let name = format!("conv{}", 2 * stage + half);
            net = net.conv(&name, width, 3, 1, &q.weights).bn_act(&name, &q.activations);
        }
        net = net.max_pool(&format!("pool{}", stage + 1), 2);
    }
    net.classifier(&q.weights)
}
