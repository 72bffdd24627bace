//! GEMM and convolution by counting bits: all codes into planes of bits, and every output from there.

use core::sync::atomic::{AtomicU8, Ordering};

use super::signs::{BYTE, Signs};
use crate::dispatch::Kernel;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
use crate::dispatch::Path;
use crate::error::length;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::scratch::Scratch;
use crate::strip::{Strip, strips};
use crate::{Conv2d, Conv2dSizes, KernelError, parallel};

/// Work of one parallel block, in multiply-accumulates.
const BLOCK_MACS: usize = 1 << 23;
/// Rows of a block are a multiple, so that its tiles are whole.
const ROWS: usize = 64;
/// Codes from which on several threads pack them (fewer are done with before another is awake), and how many parts they then
/// make.
const MANY: usize = 1 << 20;
const PARTS: usize = 16;

/// As [`super::gemm`].
pub(super) fn gemm<E: Epilogue>(
    op: &'static str,
    kernel: Kernel,
    a: &[u8],
    w: &Signs,
    epilogue: &E,
    c: &mut [E::Out],
) -> Result<(), KernelError> {
    let (k, n) = (w.k(), w.n());
    epilogue.check(n)?;
    let m = a.len() / k;
    length(op, "a", m * k, a.len())?;
    length(op, "c", m * n, c.len())?;
    let (height, width, _) = w.kernel();
    if (height, width) != (1, 1) {
        return Err(KernelError::Pack { op, expected: [k, n], actual: [k, n] });
    }
    rows(op, kernel, a, w, epilogue, c)
}

/// Rows of codes. Lengths have been checked.
fn rows<E: Epilogue>(
    op: &'static str,
    kernel: Kernel,
    a: &[u8],
    w: &Signs,
    epilogue: &E,
    c: &mut [E::Out],
) -> Result<(), KernelError> {
    let (k, n) = (w.k(), w.n());
    let bits = Bits::of_rows(op, kernel, a, k)?;
    let line = k.div_ceil(BYTE);
    let block = parallel::rows_per_chunk(a.len() / k, k * n, BLOCK_MACS).next_multiple_of(ROWS);
    let few = a.len() * n < parallel::FEW_MACS;
    parallel::for_each_chunk_unless(few, c, block * n, |i, c| {
        let place = Place { columns: usize::MAX, row_step: 0, column_step: line, segment_step: 0 };
        multiply(kernel, w, &bits, i * block * line, place, epilogue, c);
    });
    Ok(())
}

/// As [`super::conv2d`].
pub(super) fn conv2d<E: Epilogue>(
    op: &'static str,
    kernel: Kernel,
    g: &Conv2d,
    (x, pad): (&[u8], u8),
    w: &Signs,
    epilogue: &E,
    y: &mut [E::Out],
) -> Result<(), KernelError> {
    if g.depthwise {
        return Err(KernelError::Geometry {
            op,
            reason: "the geometry is a depthwise one",
            sizes: g.kernel_shape(),
        });
    }
    if (w.kernel(), w.n()) != (Signs::shape(g), g.out_c) {
        return Err(KernelError::Pack { op, expected: [g.patch(), g.out_c], actual: [w.k(), w.n()] });
    }
    epilogue.check(g.out_c)?;
    length(op, "x", g.input_len(), x.len())?;
    length(op, "y", g.output_len(), y.len())?;
    if g.is_pointwise() {
        check(op, (&[], pad), pad)?;
        return rows(op, kernel, x, w, epilogue, y);
    }
    let bits = Bits::of_images(op, kernel, g, (x, pad))?;
    let (pixel, line) = (g.in_c.div_ceil(BYTE), Bits::line(g));
    strips(g, (BLOCK_MACS, parallel::FEW_MACS), y, |image, strip, y| {
        let first = (image * Bits::height(g) + strip.first * g.stride_h) * line;
        let place = Place {
            columns: g.out_w,
            row_step: line * g.stride_h,
            column_step: pixel * g.stride_w,
            segment_step: line,
        };
        multiply(kernel, w, &bits, first, place, epilogue, y);
    });
    Ok(())
}

/// An error if some code, or `pad`, has more than two bits; `union` has all bits of both.
fn check(op: &'static str, (x, pad): (&[u8], u8), union: u8) -> Result<(), KernelError> {
    if union <= 3 {
        return Ok(());
    }
    let value = x.iter().copied().chain([pad]).find(|&code| code > 3).unwrap_or(union);
    Err(KernelError::Code { op, largest: 3, value })
}

/// Planes of bits: bit `j` of byte `i` of a pixel is a bit of its code `8 i + j`.
struct Bits {
    data: Scratch<u8>,
    /// Bytes of a plane, of which two follow one another.
    plane: usize,
    /// How many of them have bits: one or two.
    planes: usize,
}

impl Bits {
    /// The bits of rows of `k` codes, each of whole bytes.
    fn of_rows(op: &'static str, kernel: Kernel, a: &[u8], k: usize) -> Result<Self, KernelError> {
        // Rows of whole bytes follow one another like one long row.
        let line = k.div_ceil(BYTE);
        Self::new(op, (a, 0), (a.len() / k, line), |first, [low, high]| {
            let a = &a[first * k..][..low.len() / line * k];
            let run = if k.is_multiple_of(BYTE) { a.len() } else { k };
            pack(kernel, a, run, [low, high], (0, line))
        })
    }

    /// The bits of images, padded on all sides.
    fn of_images(
        op: &'static str,
        kernel: Kernel,
        g: &Conv2dSizes,
        (x, pad): (&[u8], u8),
    ) -> Result<Self, KernelError> {
        let (height, line, pixel) = (Self::height(g), Self::line(g), g.in_c.div_ceil(BYTE));
        let (left, inside) = (g.pad_left * pixel, g.in_w * pixel);
        // Of a pixel beyond the image, what the last byte has too much is nobody's.
        let beyond = [0, 1].map(|plane| if pad >> plane & 1 == 1 { u8::MAX } else { 0 });
        let image = g.in_w * g.in_c;
        let run = if g.in_c.is_multiple_of(BYTE) { image } else { g.in_c };
        Self::new(op, (x, pad), (g.batch * height, line), |first, planes| {
            let mut union = pad;
            let [low, high] = planes;
            for (i, (low, high)) in low.chunks_exact_mut(line).zip(high.chunks_exact_mut(line)).enumerate() {
                let (image_at, y) = ((first + i) / height, ((first + i) % height).wrapping_sub(g.pad_top));
                if y < g.in_h {
                    for (plane, beyond) in [&mut *low, &mut *high].into_iter().zip(beyond) {
                        plane[..left].fill(beyond);
                        plane[left + inside..].fill(beyond);
                    }
                    let x = &x[(image_at * g.in_h + y) * image..][..image];
                    union |= pack(kernel, x, run, [low, high], (left, pixel));
                } else {
                    low.fill(beyond[0]);
                    high.fill(beyond[1]);
                }
            }
            union
        })
    }

    /// Lines of an image with its border, as many as patches need.
    fn height(g: &Conv2dSizes) -> usize {
        (g.out_h - 1) * g.stride_h + g.kernel_h
    }

    /// Bytes of such a line in a plane.
    fn line(g: &Conv2dSizes) -> usize {
        Strip::width(g) * g.in_c.div_ceil(BYTE)
    }

    /// Planes of `lines` lines of `line` bytes each, written by `pack`, which is given the number of a line, it and those after
    /// it in both planes, and answers what bits the codes have.
    ///
    /// # Errors
    /// Codes `x`, or the `pad` among them, of more than two bits.
    fn new(
        op: &'static str,
        (x, pad): (&[u8], u8),
        (lines, line): (usize, usize),
        pack: impl Fn(usize, [&mut [u8]; 2]) -> u8 + Sync + Send,
    ) -> Result<Self, KernelError> {
        // A patch is read in steps of four bytes.
        let plane = (lines * line + BYTE).next_multiple_of(64);
        let mut data = Scratch::<u8>::take(2 * plane);
        let union = AtomicU8::new(pad);
        let (low, high) = data.split_at_mut(plane);
        let part = if x.len() < MANY { lines } else { lines.div_ceil(PARTS) };
        let chunk = part * line;
        parallel::for_each_chunk2(
            (&mut low[..lines * line], chunk),
            (&mut high[..lines * line], chunk),
            |i, low, high| {
                union.fetch_or(pack(i * part, [low, high]), Ordering::Relaxed);
            },
        );
        let union = union.into_inner();
        check(op, (x, pad), union)?;
        Ok(Self { data, plane, planes: if union > 1 { 2 } else { 1 } })
    }
}

/// Packs runs of `run` codes: of run `i`, the lowest bits of eight codes at a time become the bytes from `first + i * step` of
/// one plane, and the next bits those of the other. Answers which bits the codes have.
fn pack(
    kernel: Kernel,
    codes: &[u8],
    run: usize,
    planes: [&mut [u8]; 2],
    (first, step): (usize, usize),
) -> u8 {
    match kernel.path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        Path::Avx512 => unsafe { crate::x86_64::avx512::bit_planes::pack(codes, run, planes, (first, step)) },
        _ => {
            for (bit, plane) in planes.into_iter().enumerate() {
                for (i, codes) in codes.chunks_exact(run).enumerate() {
                    for (byte, codes) in plane[first + i * step..].iter_mut().zip(codes.chunks(BYTE)) {
                        *byte = codes.iter().enumerate().fold(0, |b, (j, c)| b | (c >> bit & 1) << j);
                    }
                }
            }
            codes.iter().fold(0, |union, code| union | code)
        }
    }
}

/// Where patches are in a plane, see [`Patches`].
struct Place {
    columns: usize,
    row_step: usize,
    column_step: usize,
    segment_step: usize,
}

/// Outputs of the patches from byte `first` of the planes on, through the epilogue.
fn multiply<E: Epilogue>(
    kernel: Kernel,
    w: &Signs,
    bits: &Bits,
    first: usize,
    place: Place,
    epilogue: &E,
    out: &mut [E::Out],
) {
    let Place { columns, row_step, column_step, segment_step } = place;
    let patches = Patches { data: &bits.data[first..], columns, row_step, column_step, segment_step };
    let planes = (bits.planes, bits.plane);
    match kernel.path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        Path::Avx512 => unsafe { crate::x86_64::avx512::signs::multiply(w, planes, &patches, epilogue, out) },
        // Counting is worth it where a vector can: other paths choose other forms, and this one only if it is forced.
        _ => w.multiply_scalar(planes, &patches, epilogue, out),
    }
}
