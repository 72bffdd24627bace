//! AutoAttack: a fixed sequence of attacks, each on what the ones before left standing (Croce and Hein 2020).

use kernels::Real;

use crate::chunk::Chunk;
use crate::error::AttackError;
use crate::geometry::Norm;
use crate::loss::Loss;
use crate::spec::{Apgd, ApgdTargeted, Attack, AutoAttack, Fab, Square, Version};

impl AutoAttack {
    /// The attacks of the version, with auto-attack's parameters. `rand` expects a model that averages its gradients
    /// over 20 draws ([`crate::Eot`]). In L1 only the standard version is published; the other two take its APGD with
    /// their own restarts and targets.
    pub fn sequence(&self) -> Vec<Attack> {
        let norm = self.norm;
        let (restarts, targets) = if norm == Norm::L1 { (5, 5) } else { (1, 9) };
        let apgd = |loss, restarts| {
            Attack::from(Apgd { norm, loss, restarts, zero_reference: true, ..Apgd::default() })
        };
        let apgd_t = |targets| {
            Attack::from(ApgdTargeted { norm, targets, zero_reference: true, ..ApgdTargeted::default() })
        };
        let fab = |targets, restarts| Attack::from(Fab { norm, targets, restarts, ..Fab::default() });
        let square = |restarts| {
            Attack::from(Square { norm, restarts, queries: self.queries, literal: true, ..Square::default() })
        };
        match self.version {
            Version::Standard => {
                vec![apgd(Loss::CrossEntropy, restarts), apgd_t(targets), fab(9, 1), square(1)]
            }
            Version::Plus => {
                vec![
                    apgd(Loss::CrossEntropy, 5),
                    apgd(Loss::Dlr, 5),
                    fab(0, 5),
                    square(1),
                    apgd_t(9),
                    fab(9, 1),
                ]
            }
            Version::Rand => vec![apgd(Loss::CrossEntropy, 1), apgd(Loss::Dlr, 1)],
        }
    }
}

pub(crate) fn attack<T: Real>(a: &AutoAttack, c: &mut Chunk<'_, '_, T>) -> Result<(), AttackError> {
    for part in a.sequence() {
        if !c.activate() {
            break;
        }
        // Losses of different attacks do not compare: a survivor starts afresh.
        for &s in &c.active {
            c.loss[s] = f64::NEG_INFINITY;
            c.distance[s] = f64::INFINITY;
        }
        part.apply(c)?;
    }
    Ok(())
}
