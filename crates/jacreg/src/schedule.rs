//! How the weight of a penalty moves over the epochs.

use serde::{Deserialize, Serialize};

/// The factor on lambda, by epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightSchedule {
    /// Always 1.
    #[default]
    Constant,
    /// Linearly from 0 in the first epoch to 1 in the last.
    Linear,
    /// `{ ramp = { hold = 2, over = 3 } }`: 0 for `hold` epochs, then evenly up to 1 over the next `over` epochs, then 1.
    Ramp {
        /// Epochs without the penalty.
        #[serde(default)]
        hold: u32,
        /// Epochs until the weight is full; with 0 it is full at once.
        #[serde(default)]
        over: u32,
    },
}

impl WeightSchedule {
    /// The factor during `epoch` (from 0) of `epochs`.
    pub fn factor(self, epoch: u32, epochs: u32) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear => f64::from(epoch) / f64::from(epochs.max(2) - 1),
            Self::Ramp { hold, .. } if epoch < hold => 0.0,
            Self::Ramp { hold, over } => (f64::from(epoch - hold + 1) / f64::from(over + 1)).min(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WeightSchedule;

    #[test]
    fn weights_rise_as_they_are_told() {
        let over = |schedule: WeightSchedule| -> Vec<f64> { (0..5).map(|e| schedule.factor(e, 5)).collect() };
        assert_eq!(over(WeightSchedule::Constant), [1.0; 5]);
        assert_eq!(over(WeightSchedule::Linear), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(over(WeightSchedule::Ramp { hold: 1, over: 3 }), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(over(WeightSchedule::Ramp { hold: 2, over: 0 }), [0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(WeightSchedule::Linear.factor(0, 1), 0.0);
    }
}
