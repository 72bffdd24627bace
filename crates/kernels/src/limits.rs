//! What one core can do at most: loops of nothing but a kernel's inner instructions, for benches to be compared with.
//!
//! Measured in the same run as a kernel, they say how much of the machine it uses, whatever the machine and its clock.
//! The loops are assembly, so that no compiler improves on the mix they stand for. Operands are in registers or L1.

use core::arch::asm;
use std::time::Instant;

use crate::dispatch::{Kernel, Path};

/// The mix of instructions that bounds a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `u8` codes times trits in bytes, 16-bit sums: 4 patches by 16 outputs from L1, a broadcast for each patch and 8
    /// `vpmaddubsw` and `vpaddw` a step.
    Panel8,
    /// `u8` codes times trits by VNNI: 8 patches by 32 outputs from L1, a broadcast for each patch and 16 `vpdpbusd` a step.
    Vnni,
    /// 2-bit codes times masks of trits: two planes of [`Self::Count1`].
    Count2,
    /// 1-bit codes times masks of trits: 8 patches by 16 outputs from L1, a broadcast, `vpternlogd`, `vpopcntd` and `vpaddd`
    /// for 32 codes of each.
    Count1,
    /// 2-bit codes times trits by look-up: `vpshufb` of two codes at a time and `vpaddb`, 32 positions wide.
    Lut2,
    /// 1-bit codes times trits by look-up: the same instructions, four codes at a time.
    Lut1,
    /// f32 by `vfmadd231ps`, 8 wide, all in registers.
    Fma,
    /// The same, 16 wide.
    Fma16,
    /// f32 times trits by sums looked up three codes at a time: `vaddps` from L1, 8 wide.
    Sums3,
}

impl Limit {
    /// All of them.
    pub const ALL: [Limit; 9] = [
        Self::Panel8,
        Self::Vnni,
        Self::Count2,
        Self::Count1,
        Self::Lut2,
        Self::Lut1,
        Self::Fma,
        Self::Fma16,
        Self::Sums3,
    ];

    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Panel8 => "maddubs + paddw tile",
            Self::Vnni => "dpbusd tile",
            Self::Count2 => "ternlog + popcnt + paddd, 2 planes",
            Self::Count1 => "ternlog + popcnt + paddd",
            Self::Lut2 => "pshufb + paddb, 2 codes",
            Self::Lut1 => "pshufb + paddb, 4 codes",
            Self::Fma => "fma, 8 wide",
            Self::Fma16 => "fma, 16 wide",
            Self::Sums3 => "addps from L1, 3 codes",
        }
    }

    /// The path that has the loop's instructions.
    pub fn path(self) -> Path {
        match self {
            Self::Vnni | Self::Count2 | Self::Count1 | Self::Fma16 => Path::Avx512,
            _ => Path::Avx2,
        }
    }

    /// Multiply-accumulates per second of the loop, measured now (about 2 ms); `None` if the CPU lacks its instructions.
    pub fn measure(self) -> Option<f64> {
        Kernel::new(self.path())?;
        let (per_turn, turn): (f64, unsafe fn(&Memory, u64)) = match self {
            Self::Panel8 => (4.0 * 16.0 * 4.0, panel8),
            Self::Vnni => (8.0 * 32.0 * 4.0, vnni),
            Self::Count2 => (8.0 * 16.0 * 32.0 / 2.0, count),
            Self::Count1 => (8.0 * 16.0 * 32.0, count),
            Self::Lut2 => (8.0 * 32.0 * 2.0, lut),
            Self::Lut1 => (8.0 * 32.0 * 4.0, lut),
            Self::Fma => (12.0 * 8.0, fma),
            Self::Fma16 => (12.0 * 16.0, fma16),
            Self::Sums3 => (8.0 * 8.0 * 3.0, sums),
        };
        let memory = Memory([1; 16384]);
        // SAFETY: the CPU has the instructions: a kernel on that path exists.
        Some(per_turn * turns_per_second(|n| unsafe { turn(&memory, n) }))
    }
}

/// Cycles per second: dependent additions, one a cycle on every x86-64 CPU of this century.
pub fn clock() -> f64 {
    16.0 * turns_per_second(|n| {
        // SAFETY: registers only.
        unsafe {
            asm!(
                "2:",
                "add {x}, {y}", "add {x}, {y}", "add {x}, {y}", "add {x}, {y}",
                "add {x}, {y}", "add {x}, {y}", "add {x}, {y}", "add {x}, {y}",
                "add {x}, {y}", "add {x}, {y}", "add {x}, {y}", "add {x}, {y}",
                "add {x}, {y}", "add {x}, {y}", "add {x}, {y}", "add {x}, {y}",
                "dec {n}",
                "jnz 2b",
                x = inout(reg) 0_u64 => _, y = in(reg) 3_u64, n = inout(reg) n => _,
                options(nomem, nostack)
            );
        }
    })
}

/// The fastest of a few short runs: what the machine can do, not what a neighbour left of it.
fn turns_per_second(run: impl Fn(u64)) -> f64 {
    const TURNS: u64 = 50_000;
    let mut best = f64::INFINITY;
    for _ in 0..12 {
        let start = Instant::now();
        run(TURNS);
        best = best.min(start.elapsed().as_secs_f64());
    }
    TURNS as f64 / best
}

/// Half an L1 cache.
#[repr(C, align(64))]
struct Memory([u8; 16384]);

/// One step of a 4 x 16 tile a turn; codes and weights come from 8 KiB that are walked again and again.
///
/// # Safety
/// The CPU has AVX2; `turns` is not zero.
unsafe fn panel8(memory: &Memory, turns: u64) {
    // SAFETY: offsets stay below 8192 + 64 and 1024 + 3 * 1024 + 4 within the 16384 bytes.
    unsafe {
        asm!(
            "xor {i:e}, {i:e}",
            "2:",
            "mov {j:e}, {i:e}",
            "shr {j:e}, 4",
            "and {j:e}, 508",
            "vmovdqa ymm8, [{p} + {i}]",
            "vmovdqa ymm9, [{p} + {i} + 32]",
            "vpbroadcastd ymm10, [{p} + {j}]",
            "vpmaddubsw ymm11, ymm10, ymm8",
            "vpmaddubsw ymm12, ymm10, ymm9",
            "vpaddw ymm0, ymm0, ymm11",
            "vpaddw ymm1, ymm1, ymm12",
            "vpbroadcastd ymm13, [{p} + {j} + 1024]",
            "vpmaddubsw ymm14, ymm13, ymm8",
            "vpmaddubsw ymm15, ymm13, ymm9",
            "vpaddw ymm2, ymm2, ymm14",
            "vpaddw ymm3, ymm3, ymm15",
            "vpbroadcastd ymm10, [{p} + {j} + 2048]",
            "vpmaddubsw ymm11, ymm10, ymm8",
            "vpmaddubsw ymm12, ymm10, ymm9",
            "vpaddw ymm4, ymm4, ymm11",
            "vpaddw ymm5, ymm5, ymm12",
            "vpbroadcastd ymm13, [{p} + {j} + 3072]",
            "vpmaddubsw ymm14, ymm13, ymm8",
            "vpmaddubsw ymm15, ymm13, ymm9",
            "vpaddw ymm6, ymm6, ymm14",
            "vpaddw ymm7, ymm7, ymm15",
            "add {i:e}, 64",
            "and {i:e}, 8191",
            "dec {n}",
            "jnz 2b",
            p = in(reg) memory.0.as_ptr(), i = out(reg) _, j = out(reg) _, n = inout(reg) turns => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(readonly, nostack)
        );
    }
}

/// One step of an 8 x 32 tile a turn; codes and weights come from 8 KiB that are walked again and again.
///
/// # Safety
/// The CPU has AVX-512 F and VNNI; `turns` is not zero.
unsafe fn vnni(memory: &Memory, turns: u64) {
    // SAFETY: offsets stay below 8192 + 128 and 512 + 7 * 1024 + 4 within the 16384 bytes.
    unsafe {
        asm!(
            "xor {i:e}, {i:e}",
            "2:",
            "mov {j:e}, {i:e}",
            "shr {j:e}, 5",
            "and {j:e}, 508",
            "vmovdqa64 zmm16, [{p} + {i}]",
            "vmovdqa64 zmm17, [{p} + {i} + 64]",
            "vpbroadcastd zmm18, [{p} + {j}]",
            "vpbroadcastd zmm19, [{p} + {j} + 1024]",
            "vpbroadcastd zmm20, [{p} + {j} + 2048]",
            "vpbroadcastd zmm21, [{p} + {j} + 3072]",
            "vpbroadcastd zmm22, [{p} + {j} + 4096]",
            "vpbroadcastd zmm23, [{p} + {j} + 5120]",
            "vpbroadcastd zmm24, [{p} + {j} + 6144]",
            "vpbroadcastd zmm25, [{p} + {j} + 7168]",
            "vpdpbusd zmm0, zmm18, zmm16", "vpdpbusd zmm1, zmm18, zmm17",
            "vpdpbusd zmm2, zmm19, zmm16", "vpdpbusd zmm3, zmm19, zmm17",
            "vpdpbusd zmm4, zmm20, zmm16", "vpdpbusd zmm5, zmm20, zmm17",
            "vpdpbusd zmm6, zmm21, zmm16", "vpdpbusd zmm7, zmm21, zmm17",
            "vpdpbusd zmm8, zmm22, zmm16", "vpdpbusd zmm9, zmm22, zmm17",
            "vpdpbusd zmm10, zmm23, zmm16", "vpdpbusd zmm11, zmm23, zmm17",
            "vpdpbusd zmm12, zmm24, zmm16", "vpdpbusd zmm13, zmm24, zmm17",
            "vpdpbusd zmm14, zmm25, zmm16", "vpdpbusd zmm15, zmm25, zmm17",
            "add {i:e}, 128",
            "and {i:e}, 8191",
            "dec {n}",
            "jnz 2b",
            p = in(reg) memory.0.as_ptr(), i = out(reg) _, j = out(reg) _, n = inout(reg) turns => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, out("zmm16") _, out("zmm17") _,
            out("zmm18") _, out("zmm19") _, out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _,
            out("zmm24") _, out("zmm25") _,
            options(readonly, nostack)
        );
    }
}

/// One plane's step of an 8 x 16 tile a turn, from the same memory.
///
/// # Safety
/// The CPU has AVX-512 F and VPOPCNTDQ; `turns` is not zero.
unsafe fn count(memory: &Memory, turns: u64) {
    // SAFETY: offsets stay below 8192 + 128 and 512 + 7 * 1024 + 4 within the 16384 bytes.
    unsafe {
        asm!(
            "xor {i:e}, {i:e}",
            "2:",
            "mov {j:e}, {i:e}",
            "shr {j:e}, 5",
            "and {j:e}, 508",
            "vmovdqa64 zmm16, [{p} + {i}]",
            "vmovdqa64 zmm17, [{p} + {i} + 64]",
            "vpbroadcastd zmm18, [{p} + {j}]",
            "vpbroadcastd zmm19, [{p} + {j} + 1024]",
            "vpbroadcastd zmm20, [{p} + {j} + 2048]",
            "vpbroadcastd zmm21, [{p} + {j} + 3072]",
            "vpbroadcastd zmm22, [{p} + {j} + 4096]",
            "vpbroadcastd zmm23, [{p} + {j} + 5120]",
            "vpbroadcastd zmm24, [{p} + {j} + 6144]",
            "vpbroadcastd zmm25, [{p} + {j} + 7168]",
            "vpternlogd zmm18, zmm16, zmm17, 202", "vpternlogd zmm19, zmm16, zmm17, 202",
            "vpternlogd zmm20, zmm16, zmm17, 202", "vpternlogd zmm21, zmm16, zmm17, 202",
            "vpternlogd zmm22, zmm16, zmm17, 202", "vpternlogd zmm23, zmm16, zmm17, 202",
            "vpternlogd zmm24, zmm16, zmm17, 202", "vpternlogd zmm25, zmm16, zmm17, 202",
            "vpopcntd zmm18, zmm18", "vpopcntd zmm19, zmm19", "vpopcntd zmm20, zmm20",
            "vpopcntd zmm21, zmm21", "vpopcntd zmm22, zmm22", "vpopcntd zmm23, zmm23",
            "vpopcntd zmm24, zmm24", "vpopcntd zmm25, zmm25",
            "vpaddd zmm0, zmm0, zmm18", "vpaddd zmm1, zmm1, zmm19", "vpaddd zmm2, zmm2, zmm20",
            "vpaddd zmm3, zmm3, zmm21", "vpaddd zmm4, zmm4, zmm22", "vpaddd zmm5, zmm5, zmm23",
            "vpaddd zmm6, zmm6, zmm24", "vpaddd zmm7, zmm7, zmm25",
            "add {i:e}, 128",
            "and {i:e}, 8191",
            "dec {n}",
            "jnz 2b",
            p = in(reg) memory.0.as_ptr(), i = out(reg) _, j = out(reg) _, n = inout(reg) turns => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _, out("zmm24") _, out("zmm25") _,
            options(readonly, nostack)
        );
    }
}

/// Eight look-ups a turn, in registers.
///
/// # Safety
/// The CPU has AVX2; `turns` is not zero.
unsafe fn lut(_: &Memory, turns: u64) {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "2:",
            "vpshufb ymm8, ymm14, ymm15", "vpshufb ymm9, ymm14, ymm15",
            "vpaddb ymm0, ymm0, ymm8", "vpaddb ymm1, ymm1, ymm9",
            "vpshufb ymm10, ymm14, ymm15", "vpshufb ymm11, ymm14, ymm15",
            "vpaddb ymm2, ymm2, ymm10", "vpaddb ymm3, ymm3, ymm11",
            "vpshufb ymm8, ymm14, ymm15", "vpshufb ymm9, ymm14, ymm15",
            "vpaddb ymm4, ymm4, ymm8", "vpaddb ymm5, ymm5, ymm9",
            "vpshufb ymm10, ymm14, ymm15", "vpshufb ymm11, ymm14, ymm15",
            "vpaddb ymm6, ymm6, ymm10", "vpaddb ymm7, ymm7, ymm11",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) turns => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm14") _, out("ymm15") _,
            options(nomem, nostack)
        );
    }
}

/// Twelve independent fused products a turn.
///
/// # Safety
/// The CPU has FMA; `turns` is not zero.
unsafe fn fma(_: &Memory, turns: u64) {
    // SAFETY: registers only; zeroed first, for slow numbers would slow it.
    unsafe {
        asm!(
            "vzeroall",
            "2:",
            "vfmadd231ps ymm0, ymm14, ymm15", "vfmadd231ps ymm1, ymm14, ymm15",
            "vfmadd231ps ymm2, ymm14, ymm15", "vfmadd231ps ymm3, ymm14, ymm15",
            "vfmadd231ps ymm4, ymm14, ymm15", "vfmadd231ps ymm5, ymm14, ymm15",
            "vfmadd231ps ymm6, ymm14, ymm15", "vfmadd231ps ymm7, ymm14, ymm15",
            "vfmadd231ps ymm8, ymm14, ymm15", "vfmadd231ps ymm9, ymm14, ymm15",
            "vfmadd231ps ymm10, ymm14, ymm15", "vfmadd231ps ymm11, ymm14, ymm15",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) turns => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(nomem, nostack)
        );
    }
}

/// As [`fma`], 16 wide.
///
/// # Safety
/// The CPU has AVX-512F; `turns` is not zero.
unsafe fn fma16(_: &Memory, turns: u64) {
    // SAFETY: registers only; zeroed first, for slow numbers would slow it.
    unsafe {
        asm!(
            "vzeroall",
            "2:",
            "vfmadd231ps zmm0, zmm14, zmm15", "vfmadd231ps zmm1, zmm14, zmm15",
            "vfmadd231ps zmm2, zmm14, zmm15", "vfmadd231ps zmm3, zmm14, zmm15",
            "vfmadd231ps zmm4, zmm14, zmm15", "vfmadd231ps zmm5, zmm14, zmm15",
            "vfmadd231ps zmm6, zmm14, zmm15", "vfmadd231ps zmm7, zmm14, zmm15",
            "vfmadd231ps zmm8, zmm14, zmm15", "vfmadd231ps zmm9, zmm14, zmm15",
            "vfmadd231ps zmm10, zmm14, zmm15", "vfmadd231ps zmm11, zmm14, zmm15",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) turns => _,
            out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
            out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
            out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
            options(nomem, nostack)
        );
    }
}

/// Eight additions from L1 a turn.
///
/// # Safety
/// The CPU has AVX2; `turns` is not zero.
unsafe fn sums(memory: &Memory, turns: u64) {
    // SAFETY: offsets stay below 8192 + 256.
    unsafe {
        asm!(
            "vzeroall",
            "xor {i:e}, {i:e}",
            "2:",
            "vaddps ymm0, ymm0, [{p} + {i}]", "vaddps ymm1, ymm1, [{p} + {i} + 32]",
            "vaddps ymm2, ymm2, [{p} + {i} + 64]", "vaddps ymm3, ymm3, [{p} + {i} + 96]",
            "vaddps ymm4, ymm4, [{p} + {i} + 128]", "vaddps ymm5, ymm5, [{p} + {i} + 160]",
            "vaddps ymm6, ymm6, [{p} + {i} + 192]", "vaddps ymm7, ymm7, [{p} + {i} + 224]",
            "add {i:e}, 256",
            "and {i:e}, 8191",
            "dec {n}",
            "jnz 2b",
            p = in(reg) memory.0.as_ptr(), i = out(reg) _, n = inout(reg) turns => _,
            out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
            out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
            out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
            options(readonly, nostack)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Limit, clock};

    #[test]
    fn loops_run_and_are_bounded_by_ports() {
        let hz = clock();
        for limit in Limit::ALL {
            match limit.measure() {
                // No core runs more than four of these instructions a cycle, and none of them is of more than 512 products;
                // the clock may move while we look.
                Some(macs) => assert!(macs > 0.0 && macs / hz < 4.0 * 512.0 * 2.0, "{}", limit.name()),
                None => assert!(!limit.path().available()),
            }
        }
    }
}
