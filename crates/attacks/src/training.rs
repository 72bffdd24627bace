//! Adversarial training: PGD, fast FGSM with random starts, and TRADES, as an adversary of qnn's training loop.
//!
//! Samples are moved against the model in its inference phase, through the same surrogate gradients that attacks use.

use std::fmt;

use qnn::train::{Adversary, Batch};
use qnn::{Predictor, QnnError, argmax};
use serde::{Deserialize, Serialize};

use crate::geometry::{Norm, ascend, project};
use crate::loss::{Goal, Loss};
use crate::random::{Draw, gaussian, in_ball, stream};
use crate::text::words;

words! {
    /// How samples are moved, and what is trained on them.
    Method {
        /// Cross-entropy on iterated steps from a random start (Madry et al. 2018).
        Pgd = "pgd",
        /// Cross-entropy on one step from a random start (Wong et al. 2020), with a check for catastrophic overfitting.
        FgsmRs = "fgsm_rs",
        /// Clean cross-entropy and the divergence from clean to adversarial predictions (Zhang et al. 2019).
        Trades = "trades",
    }
}

/// Settings of adversarial training in L-infinity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdversarialTraining {
    /// How samples are moved.
    pub method: Method,
    /// Radius of the ball, in units of the network's input.
    pub eps: f32,
    /// Steps; `fgsm_rs` makes one.
    pub steps: usize,
    /// Length of a step as a share of eps.
    pub step: f64,
    /// Weight of TRADES' divergence.
    pub beta: f64,
    /// Steps of training between two checks of `fgsm_rs`.
    pub check_every: u64,
}

impl AdversarialTraining {
    /// The authors' settings: 7 steps of a quarter of eps; one of 1.25 eps; 10 of a quarter and a divergence weighed 6.
    pub fn new(method: Method, eps: f32) -> Self {
        let (steps, step) = match method {
            Method::Pgd => (7, 0.25),
            Method::FgsmRs => (1, 1.25),
            Method::Trades => (10, 0.25),
        };
        Self { method, eps, steps, step, beta: 6.0, check_every: 100 }
    }

    /// The adversary for [`qnn::train::Trainer::adversarial`].
    ///
    /// # Errors
    /// Names the setting that makes no sense.
    pub fn adversary(&self) -> Result<Box<dyn Adversary>, QnnError> {
        let number = |name, value: f64| {
            if value.is_finite() && value > 0.0 {
                return Ok(());
            }
            Err(QnnError::Config(format!(
                "adversarial training: {name} = {value} is not a finite number above 0"
            )))
        };
        number("eps", f64::from(self.eps))?;
        number("step", self.step)?;
        number("beta", self.beta)?;
        number("steps", self.steps as f64)?;
        number("check_every", self.check_every as f64)?;
        if self.method == Method::FgsmRs && self.steps != 1 {
            return Err(QnnError::Config(
                "adversarial training: fgsm_rs makes one step; pgd makes more".into(),
            ));
        }
        Ok(Box::new(Attacker {
            settings: self.clone(),
            predictor: None,
            logits: Vec::new(),
            grad: Vec::new(),
        }))
    }
}

impl fmt::Display for AdversarialTraining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, eps, steps, step, .. } = self;
        write!(f, "{method}(eps={eps}, steps={steps}, step=rel {step}")?;
        match method {
            Method::Trades => write!(f, ", beta={})", self.beta),
            Method::FgsmRs => write!(f, ", check_every={})", self.check_every),
            Method::Pgd => write!(f, ")"),
        }
    }
}

/// Steps and starts of the iterated attack that single steps are checked with.
const CHECK_STEPS: usize = 10;
/// Gap between the robust accuracies under one step and under many at which training counts as overfitted to single
/// steps: Wong et al. saw it rise from a few points to nearly all of them within an epoch.
const OVERFITTED: f64 = 0.4;

#[derive(Debug)]
struct Attacker {
    settings: AdversarialTraining,
    predictor: Option<Predictor>,
    logits: Vec<f32>,
    grad: Vec<f32>,
}

/// What a step climbs: cross-entropy of the labels, or the divergence from given predictions.
enum Climb<'a> {
    Labels(&'a [u8]),
    Divergence(&'a [f32]),
}

impl Adversary for Attacker {
    fn perturb(&mut self, batch: &Batch<'_>, moved: &mut [f32]) -> Result<(), QnnError> {
        let predictor = match &mut self.predictor {
            Some(predictor) => {
                predictor.replace(batch.model)?;
                predictor
            }
            none => none.insert(Predictor::new(batch.model)?),
        };
        let (n, k) = (batch.labels.len(), batch.model.network.classes);
        let grid = batch.model.network.grid;
        let d = batch.x.len() / n.max(1);
        let real = |code: f32| (code - f32::from(grid.zero_point)) * grid.scale;
        let bounds = (vec![real(0.0); d], vec![real(255.0); d]);
        self.logits.resize(n * k, 0.0);
        self.grad.resize(batch.x.len(), 0.0);
        let mut ascent =
            Ascent { predictor, batch, bounds, d, k, logits: &mut self.logits, grad: &mut self.grad };
        let AdversarialTraining { method, eps, steps, step, .. } = self.settings;
        match method {
            Method::Trades => {
                let mut clean = vec![0.0; n * k];
                ascent.predictor.logits(batch.x, &mut clean)?;
                softmax_rows(&mut clean, k);
                ascent.start(moved, |rng, row| row.iter_mut().for_each(|v| *v = 1e-3 * gaussian(rng) as f32));
                ascent.climb(moved, eps, step, steps, &Climb::Divergence(&clean))
            }
            Method::Pgd | Method::FgsmRs => {
                let radius = f64::from(eps);
                ascent.start(moved, |rng, row| in_ball(rng, Norm::Linf, radius, row));
                let labels = Climb::Labels(batch.labels);
                if method == Method::FgsmRs && batch.step.is_multiple_of(self.settings.check_every) {
                    let mut many = moved.to_vec();
                    ascent.climb(&mut many, eps, 0.25, CHECK_STEPS, &labels)?;
                    let iterated = ascent.accuracy(&many)?;
                    ascent.climb(moved, eps, step, steps, &labels)?;
                    let single = ascent.accuracy(moved)?;
                    if single - iterated > OVERFITTED {
                        return Err(QnnError::Config(format!(
                            "catastrophic overfitting at step {}: {:.0} % of the batch withstand one step of eps {eps}, \
                             {:.0} % withstand {CHECK_STEPS}; train with method = \"pgd\", a smaller eps or a shorter step",
                            batch.step,
                            100.0 * single,
                            100.0 * iterated
                        )));
                    }
                    return Ok(());
                }
                ascent.climb(moved, eps, step, steps, &labels)
            }
        }
    }

    fn consistency(&self) -> Option<f64> {
        (self.settings.method == Method::Trades).then_some(self.settings.beta)
    }

    fn settings(&self) -> String {
        self.settings.to_string()
    }
}

/// One batch on its way up.
struct Ascent<'a, 'b> {
    predictor: &'a mut Predictor,
    batch: &'a Batch<'b>,
    bounds: (Vec<f32>, Vec<f32>),
    d: usize,
    k: usize,
    logits: &'a mut [f32],
    grad: &'a mut [f32],
}

impl Ascent<'_, '_> {
    /// Writes the clean samples plus what `draw` puts into each row.
    fn start(&self, moved: &mut [f32], draw: impl Fn(&mut qtensor::stream::ChaCha8Rng, &mut [f32])) {
        for (i, (row, x)) in moved.chunks_exact_mut(self.d).zip(self.batch.x.chunks_exact(self.d)).enumerate()
        {
            draw(&mut stream(self.batch.seed, Draw::Training, i as u32, self.batch.step), row);
            for (((v, x), lo), hi) in row.iter_mut().zip(x).zip(&self.bounds.0).zip(&self.bounds.1) {
                *v = (*v + x).clamp(*lo, *hi);
            }
        }
    }

    fn climb(
        &mut self,
        moved: &mut [f32],
        eps: f32,
        step: f64,
        steps: usize,
        what: &Climb<'_>,
    ) -> Result<(), QnnError> {
        let (d, k) = (self.d, self.k);
        for _ in 0..steps {
            // The predictor asks for one internal batch after the other, in order.
            let mut at = 0;
            let mut cotangent = |z: &[f32], cot: &mut [f32]| {
                for (z, cot) in z.chunks_exact(k).zip(cot.chunks_exact_mut(k)) {
                    match what {
                        Climb::Labels(labels) => {
                            Loss::LogOdds.cotangent(z, Goal::Untargeted { label: labels[at] }, cot);
                        }
                        Climb::Divergence(p) => {
                            cot.copy_from_slice(z);
                            softmax_rows(cot, k);
                            cot.iter_mut().zip(&p[at * k..]).for_each(|(q, p)| *q -= p);
                        }
                    }
                    at += 1;
                }
            };
            self.predictor.logits_vjp(moved, &mut cotangent, self.logits, self.grad)?;
            let rows =
                moved.chunks_exact_mut(d).zip(self.grad.chunks_exact(d)).zip(self.batch.x.chunks_exact(d));
            for ((row, grad), x) in rows {
                ascend(Norm::Linf, row, grad, step * f64::from(eps));
                project(Norm::Linf, row, x, f64::from(eps), &self.bounds.0, &self.bounds.1);
            }
        }
        Ok(())
    }

    fn accuracy(&mut self, moved: &[f32]) -> Result<f64, QnnError> {
        self.predictor.logits(moved, self.logits)?;
        let rows = self.logits.chunks_exact(self.k).zip(self.batch.labels);
        let correct = rows.filter(|(z, y)| argmax(z) == usize::from(**y)).count();
        Ok(correct as f64 / self.batch.labels.len().max(1) as f64)
    }
}

fn softmax_rows(z: &mut [f32], k: usize) {
    for row in z.chunks_exact_mut(k) {
        let max = row.iter().copied().fold(f32::MIN, f32::max);
        row.iter_mut().for_each(|v| *v = (*v - max).exp());
        let total: f32 = row.iter().sum();
        row.iter_mut().for_each(|v| *v /= total);
    }
}
