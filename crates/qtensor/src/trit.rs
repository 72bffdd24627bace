//! The ternary digit.

/// A ternary code: -1, 0 or 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trit(i8);

/// A number that is no trit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not -1, 0 or 1")]
pub struct NotATrit(pub i8);

impl Trit {
    /// -1.
    pub const MINUS: Trit = Trit(-1);
    /// 0.
    pub const ZERO: Trit = Trit(0);
    /// 1.
    pub const PLUS: Trit = Trit(1);

    /// -1, 0 or 1.
    pub const fn get(self) -> i8 {
        self.0
    }
}

impl TryFrom<i8> for Trit {
    type Error = NotATrit;
    fn try_from(code: i8) -> Result<Self, NotATrit> {
        if (-1..=1).contains(&code) { Ok(Trit(code)) } else { Err(NotATrit(code)) }
    }
}

impl From<Trit> for i8 {
    fn from(trit: Trit) -> i8 {
        trit.0
    }
}

impl std::ops::Neg for Trit {
    type Output = Trit;
    fn neg(self) -> Trit {
        Trit(-self.0)
    }
}

impl std::ops::Mul for Trit {
    type Output = Trit;
    fn mul(self, other: Trit) -> Trit {
        Trit(self.0 * other.0)
    }
}

/// Shares of -1, 0 and 1 among the codes (all 0 for none): what "sparsity" reports are made of.
pub fn shares(codes: &[i8]) -> [f64; 3] {
    let mut counts = [0usize; 3];
    for &code in codes {
        counts[usize::from(code > 0) + usize::from(code >= 0)] += 1;
    }
    counts.map(|count| if codes.is_empty() { 0.0 } else { count as f64 / codes.len() as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_values_exist() {
        let trits: Vec<Trit> = (i8::MIN..=i8::MAX).filter_map(|c| Trit::try_from(c).ok()).collect();
        assert_eq!(trits, [Trit::MINUS, Trit::ZERO, Trit::PLUS]);
        assert_eq!(-Trit::PLUS * Trit::MINUS, Trit::PLUS);
        assert_eq!(Trit::try_from(2), Err(NotATrit(2)));
        assert_eq!(shares(&[-1, 0, 0, 1]), [0.25, 0.5, 0.25]);
        assert_eq!(shares(&[]), [0.0; 3]);
    }
}
