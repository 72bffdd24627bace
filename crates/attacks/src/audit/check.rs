//! The checks: their names, what they mean, how much passes, and what to do when they fail.

use super::significance::{Evidence, fewest_samples};
use super::{Finding, Weight};
use crate::text::words;

words! {
    /// One check of the audit.
    Check {
        /// Share of samples answered with probabilities (all in [0, 1], summing to 1) where logits are expected.
        Probabilities = "probabilities",
        /// Largest distance between unit-length logits of the same sample in five passes (auto-attack's flag).
        Randomness = "randomness",
        /// Share of samples with a logit or gradient that is not finite.
        NonFinite = "non_finite",
        /// Share of correct samples whose margin gradient is exactly zero.
        ZeroGradient = "zero_gradient",
        /// Share of correct samples where the margin has a gradient and the loss has none.
        Saturation = "saturation",
        /// Median difference of the two largest logits of correct samples: beyond 88 the softmax of f32 saturates to 0 and 1.
        LogitScale = "logit_scale",
        /// 1 when only logits could be used.
        GradientAccess = "gradient_access",
        /// Share of correct samples an iterative attack from the clean point never moved.
        FrozenIterates = "frozen_iterates",
        /// Share broken by one step and not by iterated ones.
        SingleStep = "single_step",
        /// Share broken without gradients and not with them.
        BlackBox = "black_box",
        /// Share broken by random noise and by no attack.
        RandomNoise = "random_noise",
        /// Share broken by the surrogate's examples and not by the model's own gradients.
        Transfer = "transfer",
        /// Share broken through the surrogate's gradients and not through the model's own.
        Surrogates = "surrogates",
        /// Share broken by losses that cannot saturate and not by the audited loss.
        LossChoice = "loss_choice",
        /// Share surviving an attack that may use the whole input box.
        Unbounded = "unbounded",
        /// Largest rise of robust accuracy from one eps to twice it.
        Monotone = "monotone",
        /// Share broken only when the steps are multiplied by four.
        MoreSteps = "more_steps",
        /// Share broken only by the fourth or fifth of five restarts.
        Restarts = "restarts",
        /// Share that the outcomes given call robust and the audit broke.
        Claim = "claim",
        /// Correct samples to attack; its threshold is the fewest that can show anything.
        Samples = "samples",
    }
}

impl Check {
    /// What failing means.
    pub fn weight(self) -> Weight {
        match self {
            Check::GradientAccess
            | Check::LogitScale
            | Check::Monotone
            | Check::MoreSteps
            | Check::Restarts
            // A weak list of attacks says nothing about the model.
            | Check::Claim
            | Check::Samples => Weight::Doubt,
            _ => Weight::Masking,
        }
    }

    /// What to run next when it fails.
    pub fn next(self) -> &'static str {
        match self {
            Check::Probabilities => {
                "attack the logits: remove the final softmax, or take the logarithm of its output"
            }
            Check::Randomness => {
                "average gradients and decisions over draws (the `Eot` wrapper, 20 draws), or fix the model's seed"
            }
            Check::NonFinite => "find the layer that overflows; clamp or rescale it before any attack",
            Check::ZeroGradient => {
                "give the quantizers surrogate gradients (straight-through), compare several, and run square and transfer"
            }
            Check::Saturation => {
                "use loss=log_odds or loss=dlr, or rescale the logits (the `Rescaled` wrapper)"
            }
            Check::LogitScale => {
                "divide the logits by a temperature (`Rescaled::hessian_scaled`), or use loss=log_odds"
            }
            Check::GradientAccess => "audit again with gradients, or with a differentiable surrogate",
            Check::FrozenIterates => "use a random start, another surrogate gradient, and square",
            Check::SingleStep => {
                "shorten the step, add steps and restarts, or use apgd: the iterative attack diverges"
            }
            Check::BlackBox => {
                "change the surrogate gradient or the loss, and report the black-box number meanwhile"
            }
            Check::RandomNoise => {
                "check the box, the input scaling and the labels: no attack may be weaker than noise"
            }
            Check::Transfer => "report the transfer number, and attack through the surrogate's gradients",
            Check::Surrogates => {
                "attack through this surrogate as well (`Bpda`, `Passing`), and keep the worst case of both"
            }
            Check::LossChoice => "report the attack with loss=log_odds or loss=dlr",
            Check::Unbounded => {
                "check the attack on an undefended model: with the whole box it must always succeed"
            }
            Check::Monotone => "add steps and restarts at the larger eps",
            Check::MoreSteps => "double the steps until robust accuracy settles, or use apgd",
            Check::Restarts => "add restarts until the worst case over them settles",
            Check::Claim => {
                "report the worst case over all attacks, sample by sample, instead of the claimed number"
            }
            Check::Samples => "audit more samples",
        }
    }

    fn meaning(self, number: f64) -> String {
        let percent = 100.0 * number;
        match self {
            Check::Probabilities => format!("{percent:.1} % of the outputs are probabilities, not logits"),
            Check::Randomness => {
                format!("repeated passes differ by up to {number:.2e} in unit-length logits")
            }
            Check::NonFinite => {
                format!("{percent:.1} % of the samples have logits or gradients that are not finite")
            }
            Check::ZeroGradient => format!("{percent:.1} % of the correct samples have no gradient at all"),
            Check::Saturation => {
                format!(
                    "the loss has no gradient on {percent:.1} % of the correct samples although the margin has one"
                )
            }
            Check::LogitScale => format!("the two largest logits are {number:.2} apart in the median"),
            Check::GradientAccess if number > 0.0 => {
                "only logits were available: no check of gradients ran".into()
            }
            Check::GradientAccess => "gradients were available".into(),
            Check::FrozenIterates => {
                format!("{percent:.1} % of the correct samples were never moved by iterated steps")
            }
            Check::SingleStep => format!("one step breaks {percent:.1} % that iterated attacks do not"),
            Check::BlackBox => {
                format!("black-box attacks break {percent:.1} % that white-box attacks do not")
            }
            Check::RandomNoise => format!("random noise breaks {percent:.1} % that no attack breaks"),
            Check::Transfer => {
                format!("examples of the surrogate break {percent:.1} % that white-box attacks do not")
            }
            Check::Surrogates => {
                format!("other surrogate gradients break {percent:.1} % that the model's own do not")
            }
            Check::LossChoice => {
                format!("losses that cannot saturate break {percent:.1} % that the audited loss does not")
            }
            Check::Unbounded => format!("{percent:.1} % survive an attack that may change the input at will"),
            Check::Monotone => format!("robust accuracy rises by {percent:.1} points when eps doubles"),
            Check::MoreSteps => format!("four times the steps break {percent:.1} % more"),
            Check::Restarts => format!("five restarts break {percent:.1} % more than three"),
            Check::Samples => format!("{number} correct samples were attacked"),
            Check::Claim => format!("the audit breaks {percent:.1} % that the given outcomes call robust"),
        }
    }

    /// The finding for a measured number: passed when it is at most `threshold`.
    pub(super) fn finding(self, number: f64, threshold: f64) -> Finding {
        Finding {
            check: self,
            number,
            threshold,
            passed: number <= threshold,
            p_value: None,
            weight: self.weight(),
            sentence: self.meaning(number),
            next: self.next().to_owned(),
        }
    }

    /// The finding for a count: failed with the check's weight if it proves more than is tolerated, in doubt if it only hints.
    pub(super) fn judged(self, evidence: Evidence) -> Finding {
        let Evidence { count, total, tolerance, p_value } = evidence;
        let mut finding = self.finding(evidence.number(), tolerance);
        finding.passed = evidence.is_tolerated();
        finding.p_value = Some(p_value);
        if count > 0 {
            let p = if p_value < 0.001 { format!("{p_value:.0e}") } else { format!("{p_value:.3}") };
            finding.sentence = format!("{} ({count} of {total}, p = {p})", finding.sentence);
        }
        if !evidence.is_tolerated() && !evidence.is_proof() {
            finding.weight = Weight::Doubt;
            let more = match evidence.samples_to_settle() {
                Some(samples) => format!("audit about {samples} correct samples"),
                None => "audit all samples there are".to_owned(),
            };
            finding.next = format!("{more}: so few may be luck. If as many fail then, {}", self.next());
        }
        finding
    }

    /// Whether there were enough correct samples.
    pub(super) fn samples(correct: usize) -> Finding {
        let fewest = fewest_samples();
        Finding {
            passed: correct >= fewest,
            next: format!("audit at least {fewest} samples that the model answers correctly"),
            ..Check::Samples.finding(correct as f64, fewest as f64)
        }
    }
}
