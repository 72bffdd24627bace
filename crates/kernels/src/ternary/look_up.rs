//! GEMM and convolution by look-up: codes into planes, block by block, and every output of a block from there.

use super::lut::Lut;
use super::planes::{self, Layout};
use crate::dispatch::{Kernel, Path};
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::scratch::Scratch;
use crate::strip::{Strip, strips};
use crate::{Conv2d, KernelError, parallel};

/// Work of one parallel block, in multiply-accumulates.
const BLOCK_MACS: usize = 1 << 24;
/// Rows of a matrix whose planes are packed at a time: two vectors.
const ROWS: usize = 64;

/// Fails if a code is above the largest that the weight's form can look up.
pub(super) fn check_codes(op: &'static str, w: &Lut, x: &[u8], pad: u8) -> Result<(), KernelError> {
    let largest = (1 << w.bits()) - 1;
    // The union of bits is above if and only if some code is.
    let union = union(x) | pad;
    if union <= largest {
        return Ok(());
    }
    let value = x.iter().copied().chain([pad]).find(|&code| code > largest).unwrap_or(union);
    Err(KernelError::Code { op, largest, value })
}

crate::dispatch::two_paths! {
    pub(super) fn union(x: &[u8]) -> u8 {
        x.iter().fold(0, |union, &code| union | code)
    }
}

/// Rows of codes times a weight of one tap. Lengths have been checked.
pub(super) fn gemm<E: Epilogue>(kernel: Kernel, a: &[u8], w: &Lut, epilogue: &E, c: &mut [E::Out]) {
    let taps = w.taps();
    let (k, n) = (taps.k(), taps.n);
    let rows = parallel::rows_per_chunk(a.len() / k, k * n, BLOCK_MACS / 4).next_multiple_of(ROWS);
    parallel::for_each_chunk(c, rows * n, |i, c| {
        let a = &a[i * rows * k..][..c.len() / n * k];
        for (a, c) in a.chunks(ROWS * k).zip(c.chunks_mut(ROWS * n)) {
            let layout = Layout::of_rows(c.len() / n);
            let mut data = Scratch::<u8>::take(layout.len(&taps));
            pack_row(kernel, w, a, &layout, (0, c.len() / n, 0), &mut data);
            multiply(kernel, w, &data, &layout, epilogue, c);
        }
    });
}

/// As [`super::conv2d`]. Lengths have been checked.
pub(super) fn conv2d<E: Epilogue>(
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &Lut,
    epilogue: &E,
    y: &mut [E::Out],
) {
    if g.is_pointwise() {
        return gemm(kernel, x, w, epilogue, y);
    }
    strips(g, (BLOCK_MACS, parallel::FEW_MACS), y, |image, strip, y| {
        let x = &x[image * g.in_h * g.in_w * g.in_c..][..g.in_h * g.in_w * g.in_c];
        let mut padded = Scratch::<u8>::take(strip.len(g));
        strip.copy(g, x, pad, &mut padded, |from, to| to.copy_from_slice(from));
        let (taps, layout) = (w.taps(), Layout::of_strip(g, &strip));
        let mut data = Scratch::<u8>::take(layout.len(&taps));
        let shape = (strip.height(g), Strip::width(g));
        layout.for_each_row(&taps, shape, |pixel, count, to| {
            pack_row(kernel, w, &padded, &layout, (pixel, count, to), &mut data);
        });
        multiply(kernel, w, &data, &layout, epilogue, y);
    });
}

/// Packs `count` pixels from pixel `first` of `codes` to position `to` of the first plane they belong to.
fn pack_row(
    kernel: Kernel,
    w: &Lut,
    codes: &[u8],
    layout: &Layout,
    (first, count, to): (usize, usize, usize),
    data: &mut [u8],
) {
    let (taps, step) = (w.taps(), layout.step());
    let (codes, data) = (&codes[first * taps.channels..], &mut data[to..]);
    match kernel.path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        Path::Avx2 | Path::Avx512 => unsafe {
            crate::x86_64::planes::pack_row(&taps, codes, step, count, layout.plane, data)
        },
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
        Path::Scalar => planes::pack_row(&taps, codes, step, count, layout.plane, data),
    }
}

/// All outputs of the positions in the planes, through the epilogue.
fn multiply<E: Epilogue>(
    kernel: Kernel,
    w: &Lut,
    data: &[u8],
    layout: &Layout,
    epilogue: &E,
    out: &mut [E::Out],
) {
    let offsets = layout.offsets(&w.taps());
    match kernel.path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        Path::Avx2 | Path::Avx512 => unsafe {
            crate::x86_64::lut::multiply(w, data, &offsets, layout, epilogue, out)
        },
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
        Path::Scalar => multiply_scalar(w, data, &offsets, epilogue, out),
    }
}

fn multiply_scalar<E: Epilogue>(w: &Lut, data: &[u8], offsets: &[i32], epilogue: &E, out: &mut [E::Out]) {
    let n = w.taps().n;
    let tables = w.tables();
    for (p, out) in out.chunks_exact_mut(n).enumerate() {
        for (panel, out) in out.chunks_mut(PANEL).enumerate() {
            let mut acc = [0_i32; PANEL];
            for (o, acc) in acc[..out.len()].iter_mut().enumerate() {
                let (tile, place) = ((panel * PANEL + o) / super::lut::OUTPUTS, o % super::lut::OUTPUTS);
                let product = |(&offset, starts): (&i32, &[u16; super::lut::OUTPUTS])| {
                    let byte = data[offset as usize + p];
                    i32::from(tables[usize::from(starts[place]) / 32].0[usize::from(byte)])
                };
                *acc = offsets.iter().zip(w.tile(tile).0).map(product).sum();
            }
            epilogue.store(&acc, panel * PANEL, out);
        }
    }
}
