//! Every epilogue against its definition: run by the suites of all operations, and what each refuses.

use kernels::epilogue::{self, Addend, Affine, Grid};

use super::*;

/// Per-channel parameters of a requantisation, wild on purpose.
fn requantization(n: usize, seed: u64) -> (Vec<i32>, Vec<i32>, Vec<u8>) {
    let bias = bits(seed).take(n).map(|b| (b as i32) >> 12).collect();
    let multiplier = bits(seed + 1).take(n).map(|b| (b >> 33) as i32).collect();
    let shift = bits(seed + 2).take(n).map(|b| 31 + (b >> 40) as u8 % 32).collect();
    (bias, multiplier, shift)
}

/// Runs `op` with each epilogue on each path and compares with the reference accumulators.
pub(crate) fn every_epilogue(n: usize, acc: &[i32], op: &dyn Op) -> Result<(), TestCaseError> {
    let (scale, shift): (Vec<f32>, Vec<f32>) = (values(7, n), values(8, n));
    let (bias, multiplier, shifts) = requantization(n, 9);
    let range = (3, 250);
    let requantize = Requantize::new(&bias, &multiplier, &shifts, 17, range).expect("parameters");
    // Lines fall as well as rise, and their intercepts are no multiples of the slope.
    let falling: Vec<i32> =
        multiplier.iter().zip(&bias).map(|(&m, &b)| if b & 1 == 0 { m } else { -m }).collect();
    let offset: Vec<i64> = bits(10).take(n).map(|b| (b as i64) >> 4).collect();
    let lines = Requantize::lines(&falling, &offset, &shifts, 200).expect("parameters");
    // Every other panel has a line in f32 for each of its channels; the first channel of the others is out of f32's reach.
    let tame_factor = |i: usize| {
        let (m, shift) = (1 << 30 | multiplier[i] >> 1, 32 + shifts[i] % 4);
        if (i / 16).is_multiple_of(2) || !i.is_multiple_of(16) { (m, shift) } else { (m, 62) }
    };
    let (tame_multiplier, tame_shift): (Vec<i32>, Vec<u8>) = (0..n).map(tame_factor).unzip();
    let tame_bias: Vec<i32> = bias.iter().map(|b| b >> 9).collect();
    let tame = Requantize::new(&tame_bias, &tame_multiplier, &tame_shift, 17, range).expect("parameters");
    let in_reals = (n.div_ceil(32), n.div_ceil(16));
    prop_assert_eq!(tame.real_panels(), in_reals);
    let tame_multiplier: Vec<i32> =
        tame_multiplier.iter().zip(&bias).map(|(&m, &b)| if b & 1 == 0 { m } else { -m }).collect();
    let tame_offset: Vec<i64> =
        offset.iter().zip(&tame_shift).map(|(&o, &s)| o >> 54_u8.saturating_sub(s)).collect();
    let tame_lines = Requantize::lines(&tame_multiplier, &tame_offset, &tame_shift, 200).expect("parameters");
    prop_assert_eq!(tame_lines.real_panels(), in_reals);
    for kernel in kernels() {
        let mut got = vec![i32::MIN; acc.len()];
        op.accumulators(kernel, &mut got);
        prop_assert_eq!(&got, acc, "{}", kernel.path());

        let mut got = vec![f32::NAN; acc.len()];
        op.scale(kernel, &Scale { scale: &scale, bias: &shift }, &mut got);
        for (i, (&got, &acc)) in got.iter().zip(acc).enumerate() {
            let want = reference::integer::scale(acc, scale[i % n], shift[i % n]);
            prop_assert_eq!(got.to_bits(), want.to_bits());
        }

        let mut got = vec![0; acc.len()];
        op.requantize(kernel, &requantize, &mut got);
        for (i, (&got, &acc)) in got.iter().zip(acc).enumerate() {
            let (b, m, s) = (bias[i % n], multiplier[i % n], shifts[i % n]);
            prop_assert_eq!(got, reference::integer::requantize(acc, b, m, s, 17, range));
        }

        let mut got = vec![0; acc.len()];
        op.requantize(kernel, &lines, &mut got);
        for (i, (&got, &acc)) in got.iter().zip(acc).enumerate() {
            let line = i128::from(acc) * i128::from(falling[i % n]) + i128::from(offset[i % n]);
            prop_assert_eq!(i128::from(got), (line >> shifts[i % n]).clamp(0, 200));
        }
        every_real_epilogue(kernel, n, acc, op)?;

        let mut got = vec![0; acc.len()];
        op.requantize(kernel, &tame, &mut got);
        for (i, (&got, &acc)) in got.iter().zip(acc).enumerate() {
            let (m, s) = tame_factor(i % n);
            prop_assert_eq!(got, reference::integer::requantize(acc, tame_bias[i % n], m, s, 17, range));
        }

        let mut got = vec![0; acc.len()];
        op.requantize(kernel, &tame_lines, &mut got);
        for (i, (&got, &acc)) in got.iter().zip(acc).enumerate() {
            let i = i % n;
            let line = i128::from(acc) * i128::from(tame_multiplier[i]) + i128::from(tame_offset[i]);
            prop_assert_eq!(i128::from(got), (line >> tame_shift[i]).clamp(0, 200));
        }
    }
    Ok(())
}

/// Constants of a real branch, wild on purpose: subnormal and huge scales, values that are no numbers.
struct Branch {
    zero: Vec<i32>,
    scale: Vec<f32>,
    bias: Option<Vec<f32>>,
    norm: Option<[Vec<f32>; 2]>,
}

impl Branch {
    fn new(n: usize, seed: u64) -> Self {
        let wild = |seed| -> Vec<f32> {
            let one = |b: u64| match b % 16 {
                0 => f32::from_bits((b >> 20) as u32),
                1 => 0.0,
                // Halves of a code, so that ties are met.
                2 => 0.5,
                _ => ((b >> 40) as f32 / (1 << 23) as f32 - 1.0) * 2.0_f32.powi((b >> 8) as i32 % 12 - 6),
            };
            bits(seed).take(n).map(one).collect()
        };
        Self {
            zero: bits(seed).take(n).map(|b| (b as i32) >> 14).collect(),
            scale: wild(seed + 1),
            bias: seed.is_multiple_of(2).then(|| wild(seed + 2)),
            norm: (!seed.is_multiple_of(3)).then(|| [wild(seed + 3), wild(seed + 4)]),
        }
    }

    fn affine(&self) -> Affine {
        let norm = self.norm.as_ref().map(|[a, b]| [&a[..], &b[..]]);
        Affine::new(&self.zero, &self.scale, self.bias.as_deref(), norm).expect("constants")
    }

    fn value(&self, acc: i32, c: usize) -> f32 {
        let (bias, norm) = (self.bias.as_ref().map(|b| b[c]), self.norm.as_ref().map(|[a, b]| [a[c], b[c]]));
        reference::integer::affine(acc, self.zero[c], self.scale[c], bias, norm)
    }
}

/// Epilogues through real values, of one branch and of a sum with codes or with accumulators.
fn every_real_epilogue(kernel: Kernel, n: usize, acc: &[i32], op: &dyn Op) -> Result<(), TestCaseError> {
    let seed = (n + acc.len()) as u64;
    let (own, other) = (Branch::new(n, seed), Branch::new(n, seed + 7));
    let grid = Grid { unit: 2.0_f32.powi(seed as i32 % 9), high: [255, 31, 3][n % 3] };
    let want = |value: f32| reference::integer::code(value, grid.unit, grid.high);
    let quantize = Quantize::new(own.affine(), grid);
    let mut got = vec![77; acc.len()];
    op.quantize(kernel, &quantize, &mut got);
    for (i, (&got, &acc)) in got.iter().zip(acc).enumerate() {
        prop_assert_eq!(got, want(own.value(acc, i % n)));
    }
    let mut again = vec![77; acc.len()];
    epilogue::apply(&quantize, n, acc, &mut again).expect("shapes");
    prop_assert_eq!(&again, &got);

    let codes = random_codes(seed, acc.len());
    let sums: Vec<i32> = bits(seed).take(acc.len()).map(|b| (b as i32) >> 10).collect();
    let (affine, second) = (own.affine(), other.affine());
    for addend in [Addend::Codes(&codes), Addend::Accumulators(&sums)] {
        let mut got = vec![77; acc.len()];
        let sum = QuantizeSum::new(&affine, (&second, addend), grid, &got).expect("lengths");
        op.quantize_sum(kernel, &sum, &mut got);
        for (i, (&got, &acc)) in got.iter().zip(acc).enumerate() {
            let beside = match addend {
                Addend::Codes(codes) => codes[i].into(),
                Addend::Accumulators(sums) => sums[i],
            };
            prop_assert_eq!(got, want(own.value(acc, i % n) + other.value(beside, i % n)));
        }
    }
    Ok(())
}

/// An operation with its inputs, for any epilogue.
pub(crate) trait Op {
    fn accumulators(&self, kernel: Kernel, out: &mut [i32]);
    fn scale(&self, kernel: Kernel, epilogue: &Scale<'_>, out: &mut [f32]);
    fn requantize(&self, kernel: Kernel, epilogue: &Requantize, out: &mut [u8]);
    fn quantize(&self, kernel: Kernel, epilogue: &Quantize, out: &mut [u8]);
    fn quantize_sum(&self, kernel: Kernel, epilogue: &QuantizeSum<'_>, out: &mut [u8]);
}

/// A sum knows the output it was made for; another one is refused, not read beyond.
#[test]
#[should_panic(expected = "the output it was made for")]
fn a_sum_is_for_one_output() {
    let (w, affine) = (int8::Packed::gemm(1, 2, &[1, 1]).expect("bytes"), Branch::new(2, 1).affine());
    let (addend, mut y) = ([0; 4], vec![0; 64]);
    let (made_for, other) = y.split_at_mut(4);
    let grid = Grid { unit: 1.0, high: 255 };
    let sum = QuantizeSum::new(&affine, (&affine, Addend::Codes(&addend)), grid, made_for).expect("lengths");
    let _ = int8::gemm(Kernel::default(), &[1, 2], &w, &sum, &mut other[..4]);
}

#[test]
fn real_epilogues_check_their_lengths() {
    assert!(Affine::new(&[0; 3], &[1.0; 2], None, None).is_err());
    assert!(Affine::new(&[0; 3], &[1.0; 3], Some(&[0.0; 4]), None).is_err());
    assert!(Affine::new(&[0; 3], &[1.0; 3], None, Some([&[1.0; 3], &[0.0; 2]])).is_err());
    let affine = |n: usize| Affine::new(&vec![0; n], &vec![1.0; n], None, None).expect("constants");
    let grid = Grid { unit: 1.0, high: 255 };
    let (three, four) = (affine(3), affine(4));
    assert!(QuantizeSum::new(&three, (&three, Addend::Codes(&[0; 5])), grid, &[0; 6]).is_err());
    assert!(QuantizeSum::new(&three, (&four, Addend::Codes(&[0; 6])), grid, &[0; 6]).is_err());
    assert!(epilogue::apply(&Quantize::new(three, grid), 4, &[0; 8], &mut [0; 8]).is_err());
    assert!(epilogue::apply(&Quantize::new(four, grid), 4, &[0; 8], &mut [0; 7]).is_err());
}
