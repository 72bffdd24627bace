//! GEMM and convolution by counting bits: codes into planes of bits, block by block, and every output of a block from
//! there.

use super::signs::{BYTE, Signs};
use crate::dispatch::{Kernel, Path};
use crate::error::length;
use crate::integer::epilogue::Epilogue;
use crate::integer::patches::Patches;
use crate::scratch::Scratch;
use crate::strip::{Strip, strips};
use crate::{Conv2d, KernelError, parallel};

/// Work of one parallel block, in multiply-accumulates.
const BLOCK_MACS: usize = 1 << 22;

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
    let planes = planes(op, a, 0)?;
    rows(kernel, a, planes, w, epilogue, c);
    Ok(())
}

/// Rows of codes of as many bits as there are `planes`. Lengths have been checked.
fn rows<E: Epilogue>(kernel: Kernel, a: &[u8], planes: usize, w: &Signs, epilogue: &E, c: &mut [E::Out]) {
    let (k, n) = (w.k(), w.n());
    let block = parallel::rows_per_chunk(a.len() / k, k * n, BLOCK_MACS).max(16);
    let few = a.len() * n < parallel::FEW_MACS;
    parallel::for_each_chunk_unless(few, c, block * n, |i, c| {
        let codes = &a[i * block * k..][..c.len() / n * k];
        let bits = Bits::new(kernel, codes, k, planes);
        let patches = Patches {
            data: bits.plane(0),
            columns: usize::MAX,
            row_step: 0,
            column_step: k.div_ceil(BYTE),
            segment_step: 0,
        };
        multiply(kernel, w, &bits, &patches, epilogue, c);
    });
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
    let planes = planes(op, x, pad)?;
    if g.is_pointwise() {
        rows(kernel, x, planes, w, epilogue, y);
        return Ok(());
    }
    strips(g, (BLOCK_MACS, parallel::FEW_MACS), y, |image, strip, y| {
        let x = &x[image * g.in_h * g.in_w * g.in_c..][..g.in_h * g.in_w * g.in_c];
        let mut padded = Scratch::<u8>::take(strip.len(g));
        strip.copy(g, x, pad, &mut padded, |from, to| to.copy_from_slice(from));
        let bits = Bits::new(kernel, &padded, g.in_c, planes);
        let line = Strip::width(g) * g.in_c.div_ceil(BYTE);
        let patches = Patches {
            data: bits.plane(0),
            columns: g.out_w,
            row_step: line * g.stride_h,
            column_step: g.in_c.div_ceil(BYTE) * g.stride_w,
            segment_step: line,
        };
        multiply(kernel, w, &bits, &patches, epilogue, y);
    });
    Ok(())
}

/// How many bits the codes need; an error if more than two.
fn planes(op: &'static str, x: &[u8], pad: u8) -> Result<usize, KernelError> {
    let union = super::look_up::union(x) | pad;
    match union {
        0 | 1 => Ok(1),
        2 | 3 => Ok(2),
        _ => {
            let value = x.iter().copied().chain([pad]).find(|&code| code > 3).unwrap_or(union);
            Err(KernelError::Code { op, largest: 3, value })
        }
    }
}

/// Planes of bits: bit `j` of byte `i` of a pixel is a bit of its code `8 i + j`.
struct Bits {
    data: Scratch<u8>,
    /// Bytes of a plane that may be read.
    plane: usize,
    planes: usize,
}

impl Bits {
    /// The lowest `planes` bits of pixels of `channels` codes.
    fn new(kernel: Kernel, codes: &[u8], channels: usize, planes: usize) -> Self {
        let bytes = codes.len() / channels * channels.div_ceil(BYTE);
        // A patch is read in steps of four bytes, and bits are written eight bytes at a time.
        let plane = (bytes + BYTE).next_multiple_of(64);
        let mut bits = Self { data: Scratch::take(planes * plane), plane, planes };
        match kernel.path() {
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            // SAFETY: a kernel on this path exists only on a CPU that can run it.
            Path::Avx512 => unsafe {
                crate::x86_64::avx512::signs::pack(codes, channels, plane, &mut bits.data)
            },
            _ => {
                for (bit, plane) in bits.data.chunks_exact_mut(plane).enumerate() {
                    let bytes = codes.chunks_exact(channels).flat_map(|pixel| pixel.chunks(BYTE));
                    for (byte, codes) in plane.iter_mut().zip(bytes) {
                        *byte = codes.iter().enumerate().fold(0, |b, (j, c)| b | (c >> bit & 1) << j);
                    }
                }
            }
        }
        bits
    }

    fn plane(&self, plane: usize) -> &[u8] {
        &self.data[plane * self.plane..][..self.plane]
    }
}

/// All outputs of the patches, through the epilogue.
fn multiply<E: Epilogue>(
    kernel: Kernel,
    w: &Signs,
    bits: &Bits,
    patches: &Patches<'_, u8>,
    epilogue: &E,
    out: &mut [E::Out],
) {
    let planes = [bits.plane(0), bits.plane(bits.planes - 1)];
    let planes = &planes[..bits.planes];
    match kernel.path() {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        // SAFETY: a kernel on this path exists only on a CPU that can run it.
        Path::Avx512 => unsafe { crate::x86_64::avx512::signs::multiply(w, planes, patches, epilogue, out) },
        // Counting is worth it where a vector can: other paths choose other forms, and this one only if it is forced.
        _ => w.multiply_scalar(planes, patches, epilogue, out),
    }
}
