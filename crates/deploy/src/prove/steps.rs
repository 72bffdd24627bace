//! The steps of a monotone map from accumulators to codes, by bisection.

/// Where a monotone map from `low..=high` to codes `0..=max` steps up, seen along the direction in which it rises:
/// positions are `u = acc`, or `u = -acc` if the map falls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Whether the code falls as the accumulator rises.
    pub falling: bool,
    /// First and last position.
    pub range: (i32, i32),
    /// `at[k - 1]`: first position whose code is at least `k`; one past the last position if there is none.
    pub at: Vec<i32>,
    /// Calls of the map.
    pub evaluations: u64,
}

impl Steps {
    /// Bisects `code` between `low` and `high` (both within 31 bits, `low <= high`).
    pub fn find(code: impl Fn(i32) -> u8, low: i32, high: i32, max: u8) -> Self {
        let falling = code(low) > code(high);
        let sign = if falling { -1 } else { 1 };
        let (first, last) = if falling { (-high, -low) } else { (low, high) };
        let code = |u: i32| code(sign * u);
        let mut at = Vec::with_capacity(usize::from(max));
        let (mut position, mut reached, top) = (first, code(first), code(last));
        let mut evaluations = 4;
        for k in 1..=max {
            if k > top {
                at.push(last + 1);
                continue;
            }
            if k > reached {
                // code(below) < k <= code(above)
                let (mut below, mut above) = (position, last);
                while above - below > 1 {
                    let middle = below + (above - below) / 2;
                    evaluations += 1;
                    if code(middle) >= k { above = middle } else { below = middle }
                }
                position = above;
                evaluations += 1;
                reached = code(above);
            }
            at.push(position);
        }
        Self { falling, range: (first, last), at, evaluations }
    }

    /// Accumulators at which a monotone map must be right to be right everywhere: the ends, and both sides of every
    /// step.
    pub fn witnesses(&self) -> impl Iterator<Item = i32> {
        let (first, last) = self.range;
        let sign = if self.falling { -1 } else { 1 };
        let sides = self.at.iter().flat_map(|&t| [t - 1, t]).filter(move |u| (first..=last).contains(u));
        [first, last].into_iter().chain(sides).map(move |u| sign * u)
    }
}
