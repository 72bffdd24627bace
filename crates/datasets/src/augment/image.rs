//! Image augmentation on u8 codes, `[h, w, c]`.
use rand_chacha::ChaCha8Rng;

use super::Augmentation;
use crate::stream::Draw;

/// Writes a varied copy of `image` to `out`; `middle` is scratch of the same length. Every draw is made whether or not
/// its field is on, so that switching one on does not change the others.
pub(super) fn vary(
    image: &[u8],
    shape: [usize; 3],
    augmentation: &Augmentation,
    rng: &mut ChaCha8Rng,
    middle: &mut [u8],
    out: &mut [u8],
) {
    let flip = rng.chance(0.5) && augmentation.horizontal_flip;
    let pad = augmentation.pad_crop as usize;
    let (top, left) = (rng.below(2 * pad + 1), rng.below(2 * pad + 1));
    let angle = augmentation.rotation_degrees * rng.range(-1.0, 1.0);
    let shift_y = augmentation.shift * rng.range(-1.0, 1.0) * shape[0] as f32;
    let shift_x = augmentation.shift * rng.range(-1.0, 1.0) * shape[1] as f32;
    if augmentation.varies_geometry() {
        flip_crop(image, shape, flip, [top, left], pad, middle);
        rotate_shift(middle, shape, angle.to_radians(), [shift_y, shift_x], out);
    } else {
        flip_crop(image, shape, flip, [top, left], pad, out);
    }
}

/// Mirrors, pads with zeros by `pad` on every side and crops at `corner`.
fn flip_crop(
    image: &[u8],
    [h, w, c]: [usize; 3],
    flip: bool,
    corner: [usize; 2],
    pad: usize,
    out: &mut [u8],
) {
    out.fill(0);
    // Source row = out row + corner - pad; the same for columns.
    let rows = pad.saturating_sub(corner[0])..(h + pad).saturating_sub(corner[0]).min(h);
    let columns = pad.saturating_sub(corner[1])..(w + pad).saturating_sub(corner[1]).min(w);
    if columns.is_empty() {
        return;
    }
    for y in rows {
        let source = &image[(y + corner[0] - pad) * w * c..][..w * c];
        let target = &mut out[y * w * c..][..w * c];
        if flip {
            for x in columns.clone() {
                let from = w - 1 - (x + corner[1] - pad);
                target[x * c..(x + 1) * c].copy_from_slice(&source[from * c..(from + 1) * c]);
            }
        } else {
            let from = columns.start + corner[1] - pad;
            target[columns.start * c..columns.end * c]
                .copy_from_slice(&source[from * c..(from + columns.len()) * c]);
        }
    }
}

/// Rotates about the centre, then shifts; bilinear, repeating the edges (Keras' `ImageDataGenerator` defaults).
fn rotate_shift(image: &[u8], [h, w, c]: [usize; 3], angle: f32, shift: [f32; 2], out: &mut [u8]) {
    let (sin, cos) = angle.sin_cos();
    let (cy, cx) = ((h as f32 - 1.0) / 2.0, (w as f32 - 1.0) / 2.0);
    for y in 0..h {
        for x in 0..w {
            let (dy, dx) = (y as f32 - cy - shift[0], x as f32 - cx - shift[1]);
            let sy = (cos * dy + sin * dx + cy).clamp(0.0, h as f32 - 1.0);
            let sx = (cos * dx - sin * dy + cx).clamp(0.0, w as f32 - 1.0);
            let (y0, x0) = (sy as usize, sx as usize);
            let (y1, x1) = ((y0 + 1).min(h - 1), (x0 + 1).min(w - 1));
            let (fy, fx) = (sy - y0 as f32, sx - x0 as f32);
            let pixel = |y: usize, x: usize| &image[(y * w + x) * c..][..c];
            let (a, b, d, e) = (pixel(y0, x0), pixel(y0, x1), pixel(y1, x0), pixel(y1, x1));
            for (k, code) in out[(y * w + x) * c..][..c].iter_mut().enumerate() {
                let upper = f32::from(a[k]) + fx * (f32::from(b[k]) - f32::from(a[k]));
                let lower = f32::from(d[k]) + fx * (f32::from(e[k]) - f32::from(d[k]));
                // Never negative, so adding one half and cutting off rounds; `round` is a library call on plain x86-64.
                *code = (upper + fy * (lower - upper) + 0.5) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Vec<u8> {
        (0..4 * 5 * 3).map(|i| i as u8 + 1).collect()
    }

    #[test]
    fn crop_at_the_pad_is_the_identity_and_flip_mirrors() {
        let image = image();
        let mut out = vec![0; image.len()];
        flip_crop(&image, [4, 5, 3], false, [2, 2], 2, &mut out);
        assert_eq!(out, image);
        flip_crop(&image, [4, 5, 3], true, [2, 2], 2, &mut out);
        assert_eq!(out[..3], image[12..15]);
        assert_eq!(out[12..15], image[..3]);
        // Corner 0: the image moves down and right by the pad, zeros enter.
        flip_crop(&image, [4, 5, 3], false, [0, 0], 2, &mut out);
        assert!(out[..2 * 15].iter().all(|&code| code == 0));
        assert_eq!(out[2 * 15 + 6..2 * 15 + 15], image[..9]);
        // Any corner stays in range, also with more padding than image.
        for pad in [1, 3, 7] {
            for corner in 0..=2 * pad {
                flip_crop(&image, [4, 5, 3], corner % 2 == 0, [corner, 2 * pad - corner], pad, &mut out);
            }
        }
    }

    #[test]
    fn rotation_and_shift_move_pixels_as_named() {
        let mut image = vec![0u8; 25];
        image[2 * 5 + 4] = 200;
        let mut out = vec![0; 25];
        rotate_shift(&image, [5, 5, 1], 0.0, [0.0, 0.0], &mut out);
        assert_eq!(out, image);
        rotate_shift(&image, [5, 5, 1], std::f32::consts::FRAC_PI_2, [0.0, 0.0], &mut out);
        assert_eq!(out.iter().filter(|&&code| code > 100).count(), 1);
        assert!(out[2] > 100 || out[22] > 100, "{out:?}");
        rotate_shift(&image, [5, 5, 1], 0.0, [1.0, -1.0], &mut out);
        assert_eq!(out[3 * 5 + 3], 200);
    }
}
