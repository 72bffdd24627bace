//! GEMM and convolution by look-up: codes into planes, block by block, and every output of a block from there.

use core::sync::atomic::{AtomicU8, Ordering};

use super::lut::{Lut, OUTPUTS, Table, UNIT};
use super::planes::{self, Layout};
use crate::dispatch::{Kernel, Path};
use crate::integer::PANEL;
use crate::integer::epilogue::Epilogue;
use crate::scratch::Scratch;
use crate::strip::{Strip, strip_rows, strips_of};
use crate::{Conv2d, KernelError, parallel};

/// Work of one parallel block, in multiply-accumulates.
const BLOCK_MACS: usize = 1 << 24;
/// Rows of a matrix whose planes are packed at a time.
const ROWS: usize = 256;
/// Bytes of planes that a near cache holds: up to these, a matrix is packed as a whole.
const NEAR: usize = 1 << 19;

/// Fails if a code is above the largest that the weight's form can look up.
pub(super) fn check_codes(op: &'static str, w: &Lut, x: &[u8], pad: u8) -> Result<(), KernelError> {
    check_union(op, w, (x, pad), union(x) | pad)
}

/// As [`check_codes`], of codes whose bits are known.
fn check_union(op: &'static str, w: &Lut, (x, pad): (&[u8], u8), union: u8) -> Result<(), KernelError> {
    let largest = (1 << w.bits()) - 1;
    // The union of bits is above if and only if some code is.
    if union <= largest {
        return Ok(());
    }
    let value = x.iter().copied().chain([pad]).find(|&code| code > largest).unwrap_or(union);
    Err(KernelError::Code { op, largest, value })
}

/// Codes from which on several threads go through them: fewer are done with before another thread is awake.
const MANY: usize = 1 << 20;

/// The bits of all codes.
pub(super) fn union(x: &[u8]) -> u8 {
    if x.len() < MANY {
        return union_of(x);
    }
    let mut parts = [0; 16];
    let len = x.len().div_ceil(parts.len());
    parallel::for_each_chunk(&mut parts, 1, |i, part| {
        part.fill(union_of(&x[(i * len).min(x.len())..((i + 1) * len).min(x.len())]));
    });
    parts.iter().fold(0, |union, &part| union | part)
}

crate::dispatch::two_paths! {
    fn union_of(x: &[u8]) -> u8 {
        x.iter().fold(0, |union, &code| union | code)
    }
}

/// Rows of codes times a weight of one tap. Lengths have been checked; codes are checked here, and nothing is written if one
/// is too large.
pub(super) fn gemm<E: Epilogue>(
    op: &'static str,
    kernel: Kernel,
    a: &[u8],
    w: &Lut,
    epilogue: &E,
    c: &mut [E::Out],
) -> Result<(), KernelError> {
    let taps = w.taps();
    let (k, n) = (taps.k(), taps.n);
    let m = a.len() / k;
    // The same places for every block of rows, full or not.
    let (layout, offsets) = (Layout::of_rows(ROWS), Layout::of_rows(ROWS).offsets(&taps));
    let (offsets, len) = (&offsets[..], layout.len(&taps).next_multiple_of(64));
    let blocks = parallel::rows_per_chunk(m, k * n, BLOCK_MACS / 4).div_ceil(ROWS);
    let few = a.len() * n < parallel::FEW_MACS;
    let pack = |first: usize, data: &mut [u8]| {
        let count = ROWS.min(m - first);
        pack_row(kernel, w, (&a[first * k..][..count * k], 1, count), (data, layout.plane))
    };
    if m.div_ceil(ROWS) * len > NEAR {
        check_codes(op, w, a, 0)?;
        parallel::for_each_chunk_unless(few, c, blocks * ROWS * n, |i, c| {
            let mut data = Scratch::<u8>::take(len);
            for (j, c) in c.chunks_mut(ROWS * n).enumerate() {
                pack((i * blocks + j) * ROWS, &mut data);
                multiply(kernel, w, &data, offsets, epilogue, c);
            }
        });
        return Ok(());
    }
    // Codes are read once: they are checked while they are packed, all of them before the first output is written.
    let mut data = Scratch::<u8>::take(m.div_ceil(ROWS) * len);
    let union = AtomicU8::new(0);
    parallel::for_each_chunk_unless(few, &mut data, blocks * len, |i, data| {
        let packed = data.chunks_mut(len).enumerate().map(|(j, data)| pack((i * blocks + j) * ROWS, data));
        union.fetch_or(packed.fold(0, |seen, codes| seen | codes), Ordering::Relaxed);
    });
    check_union(op, w, (a, 0), union.into_inner())?;
    let data = &data[..];
    parallel::for_each_chunk_unless(few, c, blocks * ROWS * n, |i, c| {
        for (data, c) in data[i * blocks * len..].chunks(len).zip(c.chunks_mut(ROWS * n)) {
            multiply(kernel, w, data, offsets, epilogue, c);
        }
    });
    Ok(())
}

/// As [`super::conv2d`]. Lengths have been checked; codes are checked here, as in [`gemm`].
pub(super) fn conv2d<E: Epilogue>(
    op: &'static str,
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &Lut,
    epilogue: &E,
    y: &mut [E::Out],
) -> Result<(), KernelError> {
    if g.is_pointwise() {
        check_union(op, w, (&[], pad), pad)?;
        return gemm(op, kernel, x, w, epilogue, y);
    }
    check_codes(op, w, x, pad)?;
    strips_of(g, whole_tiles(g, strip_rows(g, BLOCK_MACS)), parallel::FEW_MACS, y, |image, strip, y| {
        let x = &x[image * g.in_h * g.in_w * g.in_c..][..g.in_h * g.in_w * g.in_c];
        let mut padded = Scratch::<u8>::take(strip.len(g));
        strip.copy(g, x, pad, &mut padded, |from, to| to.copy_from_slice(from));
        let (taps, layout) = (w.taps(), Layout::of_strip(g, &strip));
        let mut data = Scratch::<u8>::take(layout.len(&taps));
        let shape = (strip.height(g), Strip::width(g));
        let pixels = shape.0 * shape.1;
        if layout.step() == 1 && taps.width > 1 {
            // Neighbouring columns of the kernel meet the same pixels: each is packed once, and copied.
            let plane = planes::plane(pixels);
            let mut once = Scratch::<u8>::take(taps.tap_groups() * plane);
            pack_row(kernel, w, (&padded, 1, pixels), (&mut once, plane));
            layout.for_each_row(&taps, shape, |pixel, count, to| {
                copy_row(kernel, w, count, (&once[pixel..], plane), (&mut data[to..], layout.plane));
            });
        } else {
            layout.for_each_row(&taps, shape, |pixel, count, to| {
                let pixels = (&padded[pixel * taps.channels..], layout.step(), count);
                pack_row(kernel, w, pixels, (&mut data[to..], layout.plane));
            });
        }
        multiply(kernel, w, &data, &layout.offsets(&taps), epilogue, y);
    });
    Ok(())
}

/// Positions of a tile of vectors.
const TILE: usize = 64;

/// At least `rows` rows of outputs whose positions fill whole tiles, if an image has as many.
fn whole_tiles(g: &Conv2d, rows: usize) -> usize {
    let whole = TILE >> g.out_w.trailing_zeros().min(TILE.trailing_zeros());
    if rows < g.out_h { rows.next_multiple_of(whole).min(g.out_h) } else { rows }
}

/// Packs `count` pixels of `codes`, `step` apart, from the start of the first plane. Returns the bits of all codes.
fn pack_row(
    kernel: Kernel,
    w: &Lut,
    (codes, step, count): (&[u8], usize, usize),
    (data, plane): (&mut [u8], usize),
) -> u8 {
    let taps = w.taps();
    match kernel.path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        Path::Avx2 | Path::Avx512 => unsafe {
            crate::x86_64::planes::pack_row(&taps, codes, step, count, plane, data)
        },
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
        Path::Scalar => planes::pack_row(&taps, codes, step, count, plane, data),
    }
}

/// Copies `count` positions of the planes of a weight's groups, each to the start of its plane.
fn copy_row(kernel: Kernel, w: &Lut, count: usize, from: (&[u8], usize), to: (&mut [u8], usize)) {
    let groups = w.taps().tap_groups();
    match kernel.path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        Path::Avx2 | Path::Avx512 => unsafe { crate::x86_64::planes::copy_row(groups, count, from, to) },
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
        Path::Scalar => planes::copy_row(groups, count, from, to),
    }
}

/// All outputs of the positions in the planes, through the epilogue; `offsets` says where each group's codes are.
fn multiply<E: Epilogue>(
    kernel: Kernel,
    w: &Lut,
    data: &[u8],
    offsets: &[i32],
    epilogue: &E,
    out: &mut [E::Out],
) {
    match kernel.path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        Path::Avx2 | Path::Avx512 => unsafe { crate::x86_64::lut::multiply(w, data, offsets, epilogue, out) },
        #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
        Path::Avx2 | Path::Avx512 => unreachable!("no kernel holds a path this build lacks"),
        Path::Scalar => multiply_scalar(w, data, offsets, epilogue, out),
    }
}

fn multiply_scalar<E: Epilogue>(w: &Lut, data: &[u8], offsets: &[i32], epilogue: &E, out: &mut [E::Out]) {
    let n = w.taps().n;
    let tables = w.tables();
    for (p, out) in out.chunks_exact_mut(n).enumerate() {
        for (panel, out) in out.chunks_mut(PANEL).enumerate() {
            let mut acc = [0_i32; PANEL];
            for (o, acc) in acc[..out.len()].iter_mut().enumerate() {
                let (tile, place) = ((panel * PANEL + o) / OUTPUTS, o % OUTPUTS);
                let product = |(&offset, starts): (&i32, &[u8; OUTPUTS])| {
                    let table = usize::from(starts[place]) * UNIT / size_of::<Table>();
                    i32::from(tables[table].0[usize::from(data[offset as usize + p])])
                };
                *acc = offsets.iter().zip(w.tile(tile)).map(product).sum();
            }
            epilogue.store(&acc, panel * PANEL, out);
        }
    }
}
