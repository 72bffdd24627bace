//! Runs the samples of an exported crate on a bare Cortex-M4, and counts the instructions of each step.
//!
//! With `-icount shift=0` an instruction takes one virtual nanosecond, and SysTick counts at 25 MHz, so a tick is 40
//! instructions. Instructions, not cycles.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};

const TICKS: u32 = 0x100_0000;
const INSTRUCTIONS_PER_TICK: u64 = 40;
const STEPS: usize = 64;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}

#[entry]
fn main() -> ! {
    if let Some(mut core) = cortex_m::Peripherals::take() {
        core.SYST.set_clock_source(SystClkSource::Core);
        core.SYST.set_reload(TICKS - 1);
        core.SYST.clear_current();
        core.SYST.enable_counter();
    }
    match selftest() {
        Ok(0) => debug::exit(debug::EXIT_SUCCESS),
        Ok(_) => debug::exit(debug::EXIT_FAILURE),
        Err(error) => {
            hprintln!("{}", error);
            debug::exit(debug::EXIT_FAILURE);
        }
    }
    loop {}
}

/// Runs every sample and prints what came out; the largest difference from the expected logits.
fn selftest() -> Result<u32, model::rt::ImageError> {
    let image = model::image()?;
    let (mut arena, mut logits) = ([0; model::ARENA], [0; model::CLASSES]);
    let (mut ticks, mut steps, mut largest, mut count) = ([0_u64; STEPS], 0, 0, 0);
    let samples = model::samples::INPUTS.chunks_exact(model::INPUT);
    for (input, expected) in samples.zip(model::samples::LOGITS.chunks_exact(model::CLASSES)) {
        let mut last = SYST::get_current();
        image.run_with(input, &mut arena, &mut logits, |step| {
            let now = SYST::get_current();
            if let Some(step) = step {
                if let Some(ticks) = ticks.get_mut(step) {
                    *ticks += u64::from(last.wrapping_sub(now) % TICKS);
                }
                steps = steps.max(step + 1);
            }
            last = SYST::get_current();
        })?;
        for (a, b) in logits.iter().zip(expected) {
            largest = largest.max(a.abs_diff(*b));
        }
        count += 1;
    }
    let verdict = if largest == 0 { "ok" } else { "WRONG" };
    hprintln!("{}: {} inputs, largest difference {}, {}", model::NAME, count, largest, verdict);
    for (step, ticks) in ticks.iter().enumerate().take(steps) {
        hprintln!("step {}: {} instructions", step, ticks * INSTRUCTIONS_PER_TICK);
    }
    Ok(largest)
}
