//! Is the robustness real? One call probes the model, runs its own attacks beside the ones given, and says so.
//!
//! The checks are the field's: Athalye et al. 2018 (section 3.1), Carlini et al. 2019 (checklist), Tramèr et al. 2020,
//! auto-attack's flags, and the indicators of attack failure of Pintor et al. 2022.

mod check;
mod evidence;
mod probe;
mod significance;

use kernels::Real;
use serde::{Deserialize, Serialize};

pub use check::Check;
use evidence::Evidence;
use probe::Probe;

use crate::error::AttackError;
use crate::geometry::{InputBox, Norm};
use crate::loss::Loss;
use crate::model::Access;
use crate::outcome::Outcome;
use crate::run::Samples;
use crate::stats::Rate;

/// What the findings add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Every check passed: the robust accuracy is as good as these attacks can tell.
    Sound,
    /// At least one check shows that gradients, losses or outputs mislead the attacks: the robust accuracy is not to be believed.
    Masked,
    /// Nothing shows masking, but a check could not run, asks for more effort, or had too few samples to tell from luck.
    Inconclusive,
}

/// What a failed check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Weight {
    /// The measured robustness misleads.
    Masking,
    /// The evidence is not enough.
    Doubt,
}

/// One check with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// What was measured.
    pub number: f64,
    /// The most that passes; of `samples`, the least. A count fails only where luck does not explain it (see `p_value`).
    pub threshold: f64,
    /// Whether it passed.
    pub passed: bool,
    /// Of a count of samples: the probability of so many or more if the true share were the threshold (exact binomial), or, of a net
    /// change, if it went either way alike (McNemar's exact test). A failure is masking only below 0.05 / 14, else a doubt.
    #[serde(default)]
    pub p_value: Option<f64>,
    /// What the failure means; of a check that passed, what one would mean.
    pub weight: Weight,
    /// The finding in words.
    pub sentence: String,
    /// What to run next when it failed.
    pub next: String,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// The conclusion.
    pub verdict: Verdict,
    /// All checks that ran, in a fixed order.
    pub findings: Vec<Finding>,
    /// Accuracy on the audited clean samples.
    pub clean: Rate,
    /// Accuracy left by the worst of all attacks, the audit's and those given, sample by sample.
    pub robust: Rate,
    /// Norm of the audit.
    pub norm: Norm,
    /// Radius of the audit.
    pub eps: f32,
    /// Seed of the audit's attacks.
    pub seed: u64,
}

impl AuditReport {
    /// The checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| !f.passed)
    }
}

/// What to audit, and with how much effort.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditOptions {
    /// Norm of the ball, `linf` or `l2`.
    pub norm: Norm,
    /// Radius at which robustness was claimed.
    pub eps: f32,
    /// The loss whose gradients the claim rests on.
    pub loss: Loss,
    /// Samples to audit, the first of those given.
    pub samples: usize,
    /// Steps of the iterative attacks.
    pub steps: usize,
    /// Queries of the black-box attack.
    pub queries: usize,
    /// Draws of the random-noise control.
    pub draws: usize,
    /// Samples per model call.
    pub batch: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            norm: Norm::Linf,
            eps: 8.0 / 255.0,
            loss: Loss::CrossEntropy,
            samples: 128,
            steps: 20,
            queries: 1000,
            draws: 100,
            batch: 128,
            seed: 0,
        }
    }
}

/// Audits a model.
///
/// `outcomes` are attacks already run; those of the same norm and eps join the evidence by sample id. `surrogate` is
/// another model of the same task (a float twin, or the same network with other surrogate gradients) whose adversarial
/// examples are tried on the audited one.
///
/// # Errors
/// As [`crate::run`], and [`AttackError::NothingToAudit`] when no clean sample is classified correctly.
pub fn audit<T: Real>(
    mut model: Access<'_, T>,
    surrogate: Option<Access<'_, T>>,
    samples: &Samples<'_, T>,
    bounds: &InputBox,
    outcomes: &[Outcome<T>],
    options: &AuditOptions,
) -> Result<AuditReport, AttackError> {
    samples.check(&mut model, Some(bounds))?;
    let samples = samples.first(options.samples, model.classifier().input_len());
    let probe = Probe::of(&mut model, &samples, options)?;
    if probe.correct == 0 {
        return Err(AttackError::NothingToAudit { samples: samples.len() });
    }
    let mut findings = probe.findings();
    let evidence = Evidence::gather(&mut model, surrogate, &samples, bounds, outcomes, options)?;
    findings.extend(evidence.findings());
    let failed = |weight| findings.iter().any(|f| !f.passed && f.weight == weight);
    let verdict = match (failed(Weight::Masking), failed(Weight::Doubt)) {
        (true, _) => Verdict::Masked,
        (false, true) => Verdict::Inconclusive,
        (false, false) => Verdict::Sound,
    };
    let (norm, eps, seed) = (options.norm, options.eps, options.seed);
    let (clean, robust) = evidence.rates();
    Ok(AuditReport { verdict, findings, clean, robust, norm, eps, seed })
}
