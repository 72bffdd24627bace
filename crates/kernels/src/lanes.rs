//! Cutting a channel axis into blocks of a constant length, which the compiler turns into vector registers.

/// Runs `$body` for consecutive blocks of channels `$start .. $start + $lanes`, with `$lanes` a constant: the given
/// block lengths, longest first, the last one being 1; which ones may depend on a constant.
macro_rules! for_each_block {
    ($channels:expr, [$($wide:literal),+] if $is_wide:ident else [$($block:literal),+], |$start:ident, $lanes:ident| $body:block) => {
        if $is_wide {
            for_each_block!($channels, [$($wide),+], |$start, $lanes| $body);
        } else {
            for_each_block!($channels, [$($block),+], |$start, $lanes| $body);
        }
    };
    ($channels:expr, [$($block:literal),+], |$start:ident, $lanes:ident| $body:block) => {{
        let channels: usize = $channels;
        let mut at = 0_usize;
        $(
            {
                const $lanes: usize = $block;
                while at + $lanes <= channels {
                    let $start = at;
                    $body
                    at += $lanes;
                }
            }
        )+
        debug_assert!(at == channels);
    }};
}
pub(crate) use for_each_block;

/// `L` elements of `data` from `at`, as an array.
#[inline(always)]
pub(crate) fn lanes<T, const L: usize>(data: &[T], at: usize) -> &[T; L] {
    // The slice has length L by construction, so the conversion cannot fail.
    data[at..at + L].try_into().unwrap_or_else(|_| unreachable!())
}

/// `L` elements of `data` from `at`, as a mutable array.
#[inline(always)]
pub(crate) fn lanes_mut<T, const L: usize>(data: &mut [T], at: usize) -> &mut [T; L] {
    (&mut data[at..at + L]).try_into().unwrap_or_else(|_| unreachable!())
}
