//! The counting loop of the largest tile in assembly: compilers' order of its instructions costs up to a twentieth.

use core::arch::asm;
use core::arch::x86_64::__m512i;

use crate::ternary::signs::Masks;

/// For four of the vectors of codes: each fetched anew for either panel, then four selections and counts of each under way.
#[rustfmt::skip]
macro_rules! four {
    ($a:literal, $b:literal, $c:literal, $d:literal, $i:literal) => {
        concat!(
            "vpbroadcastd zmm24, [{", $a, "} + {at}]\n", "vpbroadcastd zmm25, [{", $a, "} + {at}]\n",
            "vpbroadcastd zmm26, [{", $b, "} + {at}]\n", "vpbroadcastd zmm27, [{", $b, "} + {at}]\n",
            "vpbroadcastd zmm28, [{", $c, "} + {at}]\n", "vpbroadcastd zmm29, [{", $c, "} + {at}]\n",
            "vpbroadcastd zmm30, [{", $d, "} + {at}]\n", "vpbroadcastd zmm31, [{", $d, "} + {at}]\n",
            "vpternlogd zmm24, zmm20, zmm21, {select}\n", "vpternlogd zmm25, zmm22, zmm23, {select}\n",
            "vpternlogd zmm26, zmm20, zmm21, {select}\n", "vpternlogd zmm27, zmm22, zmm23, {select}\n",
            "vpternlogd zmm28, zmm20, zmm21, {select}\n", "vpternlogd zmm29, zmm22, zmm23, {select}\n",
            "vpternlogd zmm30, zmm20, zmm21, {select}\n", "vpternlogd zmm31, zmm22, zmm23, {select}\n",
            "vpopcntd zmm24, zmm24\n", "vpaddd {a", $i, "0:z}, {a", $i, "0:z}, zmm24\n",
            "vpopcntd zmm25, zmm25\n", "vpaddd {b", $i, "0:z}, {b", $i, "0:z}, zmm25\n",
            "vpopcntd zmm26, zmm26\n", "vpaddd {a", $i, "1:z}, {a", $i, "1:z}, zmm26\n",
            "vpopcntd zmm27, zmm27\n", "vpaddd {b", $i, "1:z}, {b", $i, "1:z}, zmm27\n",
            "vpopcntd zmm28, zmm28\n", "vpaddd {a", $i, "2:z}, {a", $i, "2:z}, zmm28\n",
            "vpopcntd zmm29, zmm29\n", "vpaddd {b", $i, "2:z}, {b", $i, "2:z}, zmm29\n",
            "vpopcntd zmm30, zmm30\n", "vpaddd {a", $i, "3:z}, {a", $i, "3:z}, zmm30\n",
            "vpopcntd zmm31, zmm31\n", "vpaddd {b", $i, "3:z}, {b", $i, "3:z}, zmm31\n",
        )
    };
}

/// Adds the counts of every step to `a`, of the first panel, and `b`, of the second, for eight vectors of codes. `SELECT` are
/// the bits of the selection; `steps` says where each step is from a vector's start, and ends with `usize::MAX`.
///
/// # Safety
/// The CPU has AVX-512 F and VPOPCNTDQ; there is a step; at each are four bytes of every vector, and as many masks of either
/// panel as there are steps.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq")]
pub(super) unsafe fn count_eight<const SELECT: i32>(
    (a, b): (&mut [__m512i; 8], &mut [__m512i; 8]),
    masks: [*const Masks; 2],
    codes: [*const u8; 8],
    steps: &[usize],
) {
    const { assert!(size_of::<Masks>() == 128) };
    debug_assert!(steps.len() > 1 && steps.last() == Some(&usize::MAX), "a step, and the end");
    let between = masks[1] as usize - masks[0] as usize;
    // SAFETY: promised by the caller; the loop ends before the last of `steps`.
    unsafe {
        asm!(
            "2:",
            "mov {at}, [{steps}]",
            "vmovdqa64 zmm20, [{masks}]",
            "vmovdqa64 zmm21, [{masks} + 64]",
            "vmovdqa64 zmm22, [{masks} + {between}]",
            "vmovdqa64 zmm23, [{masks} + {between} + 64]",
            four!("r0", "r1", "r2", "r3", "0"),
            four!("r4", "r5", "r6", "r7", "1"),
            "add {masks}, 128",
            "add {steps}, 8",
            "cmp qword ptr [{steps}], -1",
            "jne 2b",
            select = const SELECT, at = out(reg) _,
            steps = inout(reg) steps.as_ptr() => _, masks = inout(reg) masks[0] => _, between = in(reg) between,
            r0 = in(reg) codes[0], r1 = in(reg) codes[1], r2 = in(reg) codes[2], r3 = in(reg) codes[3],
            r4 = in(reg) codes[4], r5 = in(reg) codes[5], r6 = in(reg) codes[6], r7 = in(reg) codes[7],
            a00 = inout(zmm_reg) a[0], a01 = inout(zmm_reg) a[1], a02 = inout(zmm_reg) a[2], a03 = inout(zmm_reg) a[3],
            a10 = inout(zmm_reg) a[4], a11 = inout(zmm_reg) a[5], a12 = inout(zmm_reg) a[6], a13 = inout(zmm_reg) a[7],
            b00 = inout(zmm_reg) b[0], b01 = inout(zmm_reg) b[1], b02 = inout(zmm_reg) b[2], b03 = inout(zmm_reg) b[3],
            b10 = inout(zmm_reg) b[4], b11 = inout(zmm_reg) b[5], b12 = inout(zmm_reg) b[6], b13 = inout(zmm_reg) b[7],
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _, out("zmm26") _, out("zmm27") _,
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(readonly, nostack)
        );
    }
}
