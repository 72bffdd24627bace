//! A program's lines as an epilogue of the kernels.

use kernels::epilogue::Requantize;

use crate::epilogue::IntegerEpilogue;

/// A line on accumulators with the zero point not yet subtracted.
struct Line {
    multiplier: i32,
    offset: i64,
    shift: u8,
}

/// Lines of all channels, shifts brought up to what the kernels take. `None` if a channel has no line or a slope of 1 or more.
pub(super) fn requantize(channels: &[IntegerEpilogue], zero: &[i32], max: u8) -> Option<Requantize> {
    let lines: Vec<Line> = channels.iter().zip(zero).map(|(c, &z)| Line::new(c, z)).collect::<Option<_>>()?;
    let of = |f: fn(&Line) -> i32| -> Vec<i32> { lines.iter().map(f).collect() };
    let offsets: Vec<i64> = lines.iter().map(|l| l.offset).collect();
    let shifts: Vec<u8> = lines.iter().map(|l| l.shift).collect();
    Requantize::lines(&of(|l| l.multiplier), &offsets, &shifts, max).ok()
}

impl Line {
    fn new(channel: &IntegerEpilogue, zero: i32) -> Option<Self> {
        let IntegerEpilogue::Multiplier { multiplier, offset, shift } = channel else {
            return None;
        };
        let up = Requantize::SHIFTS.start().saturating_sub(*shift);
        let offset = offset.checked_sub(i64::from(*multiplier).checked_mul(zero.into())?)?;
        Some(Self {
            multiplier: i32::try_from(i64::from(*multiplier) << up).ok()?,
            offset: offset.checked_mul(1 << up)?,
            shift: shift + up,
        })
    }
}
