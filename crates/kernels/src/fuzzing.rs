//! Bodies of the fuzz targets: any bytes as geometry, codes and packed weights, and what must hold of them.
//!
//! `fuzz/` calls them under libFuzzer, `tests/fuzz_bodies.rs` over random and mutated inputs with a stable compiler.

use alloc::vec;
use alloc::vec::Vec;

use crate::dispatch::{Kernel, Path};
use crate::epilogue::Accumulators;
use crate::ternary::{self, Form, Packed, storage};
use crate::{Conv2d, KernelError, Padding, reference};

/// Most multiply-accumulates a valid case may ask for, so that fuzzing gets on.
const LARGEST: u64 = 1 << 18;

/// A convolution from `bytes`: a geometry (sizes may be absurd), a form, codes and weights (which may be no trits). Either
/// a typed error, or exactly the plain definition on every path this CPU can run. Whether it ran.
///
/// # Errors
/// What the kernels refused.
///
/// # Panics
/// If a result is not the definition's: the failure that fuzzing looks for.
pub fn convolution(bytes: &[u8]) -> Result<bool, KernelError> {
    let Some((head, body)) = bytes.split_at_checked(16) else { return Ok(false) };
    // A high bit makes a size absurd.
    let size = |i: usize| match head[i] {
        byte if byte < 128 => usize::from(byte % 24),
        byte => 1 << (byte % 64),
    };
    let padding = if head[9] % 2 == 0 { Padding::Same } else { Padding::Valid };
    let (input, kernel) = (
        [size(0) % 3, size(1), size(2), size(3)],
        [size(4) % 6, size(5) % 6, size(3 + 7 * usize::from(head[10] > 250)), size(6)],
    );
    let g = Conv2d::new(input, kernel, [size(7), size(8)], padding)?;
    if g.macs() > LARGEST || g.input_len() > 1 << 16 || g.kernel_len() > 1 << 16 || g.output_len() > 1 << 16 {
        return Ok(false);
    }
    let form = Form::ALL[usize::from(head[11]) % Form::ALL.len()];
    // Most codes fit the form and most weights are trits; the head says whether all are made to.
    let mask = if head[12] < 200 { u8::MAX >> (8 - form.bits()) } else { u8::MAX };
    let repeat = |at: usize, len: usize| body.iter().copied().cycle().skip(at).take(len);
    let x: Vec<u8> = repeat(0, g.input_len()).map(|code| code & mask).collect();
    let trit = |byte: u8| if head[13] < 250 { (byte % 3) as i8 - 1 } else { byte as i8 };
    let w: Vec<i8> = repeat(7, g.kernel_len()).map(trit).collect();
    if x.len() != g.input_len() || w.len() != g.kernel_len() {
        return Ok(false);
    }
    let packed = Packed::conv2d(form, &g, &w)?;
    let pad = head[14] & mask;
    let mut want = vec![0; g.output_len()];
    reference::integer::conv2d(&g, (&x, pad), &w, &mut want);
    for kernel in Path::ALL.into_iter().filter_map(Kernel::new) {
        let mut got = vec![i32::MIN; g.output_len()];
        ternary::conv2d(kernel, &g, (&x, pad), &packed, &Accumulators, &mut got)?;
        assert_eq!(got, want, "{form} on {} of {g:?}", kernel.path());
    }
    Ok(true)
}

/// `bytes` as trits on disk, four and five to a byte: refused, or exactly what packs to the same bytes.
///
/// # Errors
/// What unpacking refused.
///
/// # Panics
/// If unpacked trits pack to other bytes.
pub fn stored_trits(bytes: &[u8]) -> Result<bool, KernelError> {
    let Some((&head, body)) = bytes.split_first() else { return Ok(false) };
    let (two, count) = (head % 2 == 0, usize::from(head / 2 % 5));
    let mut trits = vec![0; (body.len() * if two { 4 } else { 5 }).saturating_sub(count)];
    if two {
        storage::unpack2(body, &mut trits)?;
        assert_eq!(storage::pack2(&trits)?, body);
    } else {
        storage::unpack3(body, &mut trits)?;
        assert_eq!(storage::pack3(&trits)?, body);
    }
    Ok(true)
}
