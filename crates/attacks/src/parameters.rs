//! Parameters of every attack, with the defaults that its authors published.

use std::fmt;
use std::str::FromStr;

use crate::error::ParseError;
use crate::geometry::Norm;
use crate::loss::Loss;
use crate::text::{parameters, words};

/// Length of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// A multiple of eps: `rel 0.25`.
    Relative(f64),
    /// In input units: `abs 0.01`.
    Absolute(f64),
}

impl Step {
    pub(crate) fn length(self, eps: f64) -> f64 {
        match self {
            Step::Relative(r) => r * eps,
            Step::Absolute(a) => a,
        }
    }

    pub(crate) fn number(self) -> f64 {
        match self {
            Step::Relative(v) | Step::Absolute(v) => v,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Relative(r) => write!(f, "rel {r}"),
            Step::Absolute(a) => write!(f, "abs {a}"),
        }
    }
}

impl FromStr for Step {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError::new(text, "expected `rel NUMBER` (of eps) or `abs NUMBER` (input units)");
        let (kind, number) = text.split_once(' ').ok_or_else(error)?;
        let number: f64 = number.trim().parse().map_err(|_| error())?;
        match kind {
            "rel" => Ok(Step::Relative(number)),
            "abs" => Ok(Step::Absolute(number)),
            _ => Err(error()),
        }
    }
}

words! {
    /// Where an iterative attack starts.
    Start {
        /// At the clean sample.
        Clean = "clean",
        /// Uniformly in the ball.
        Random = "random",
        /// In L2, uniform direction and uniform length, which prefers the middle (torchattacks); elsewhere as `random`.
        Radial = "radial",
    }
}

words! {
    /// Which iterate an iterative attack returns.
    Keep {
        /// The first misclassified one (the highest loss when there is none, or without early exit).
        Best = "best",
        /// The last one, whatever an earlier one achieved (ART, foolbox, torchattacks).
        Last = "last",
    }
}

parameters! {
    /// Control: uniform draws in the ball, the highest loss kept. An attack that is not clearly stronger is broken.
    Noise = "noise" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Draws per sample.
        draws: usize = 100,
        /// Loss by which draws are ranked.
        loss: Loss = Loss::Margin,
    }
}

parameters! {
    /// Fast gradient (sign) method, one steepest step of length eps (Goodfellow et al. 2015).
    Fgsm = "fgsm" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
        /// Above 0: multiples of this length along the same gradient, the first that succeeds (ART's `minimal`).
        search: f64 = 0.0,
    }
}

parameters! {
    /// Basic iterative method: PGD from the clean sample, one run (Kurakin et al. 2017).
    Bim = "bim" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Steps (gradients).
        steps: usize = 10,
        /// Length of a step.
        step: Step = Step::Relative(0.2),
        /// Which iterate is returned.
        keep: Keep = Keep::Best,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
    }
}

parameters! {
    /// Projected gradient ascent (Madry et al. 2018).
    Pgd = "pgd" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Steps (gradients) per restart.
        steps: usize = 50,
        /// Runs; each attacks what the ones before left standing.
        restarts: usize = 5,
        /// Length of a step.
        step: Step = Step::Relative(0.25),
        /// Where each run starts.
        start: Start = Start::Random,
        /// Which iterate is returned.
        keep: Keep = Keep::Best,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
    }
}

parameters! {
    /// Momentum iterative method: accumulates `g / ||g||_1` (Dong et al. 2018; torchattacks and ART agree).
    Mim = "mim" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Steps (gradients).
        steps: usize = 20,
        /// Length of a step.
        step: Step = Step::Relative(0.1),
        /// Weight of the accumulated gradient.
        decay: f64 = 1.0,
        /// Which iterate is returned.
        keep: Keep = Keep::Best,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
    }
}

parameters! {
    /// Square attack: random search with square windows, no gradients (Andriushchenko et al. 2020; auto-attack's parameters).
    Square = "square" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Forward passes per sample and restart.
        queries: usize = 5000,
        /// Share of the features in the first windows.
        p_init: f64 = 0.8,
        /// Whether the window schedule, made for 10,000 queries, is rescaled to `queries`.
        rescale: bool = false,
        /// Runs; each attacks what the ones before left standing.
        restarts: usize = 1,
        /// Loss that a proposal must increase.
        loss: Loss = Loss::Margin,
        /// Follow auto-attack's code to the letter: windows never touch the last row and column, and signs that change
        /// nothing cost a query. Weaker (measured: 6 to 9 points of robust accuracy on a small convolutional network).
        literal: bool = false,
    }
}

parameters! {
    /// Auto-PGD (Croce and Hein 2020): momentum and step sizes that halve themselves; in L1 sparse steps that become sparser
    /// with the perturbation (Croce and Hein 2021).
    Apgd = "apgd" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Steps (gradients) per restart.
        steps: usize = 100,
        /// Runs; each attacks what the ones before left standing.
        restarts: usize = 1,
        /// Loss to increase.
        loss: Loss = Loss::CrossEntropy,
        /// Share of steps of a window that must increase the loss (not in L1).
        rho: f64 = 0.75,
        /// Where each run starts; random means on the surface of the ball.
        start: Start = Start::Random,
        /// Compare the first loss with 0 instead of the start's, as auto-attack's code does (not in L1).
        zero_reference: bool = false,
        /// In L1, search within 3 eps, then 2 eps, then eps, for 30, 30 and 40 % of the steps (AutoAttack's L1 version).
        shrink: bool = true,
    }
}

parameters! {
    /// Auto-PGD against one target class after the other, with the targeted DLR loss.
    ApgdTargeted = "apgd_t" {
        /// Norm of the ball.
        norm: Norm = Norm::Linf,
        /// Steps (gradients) per restart and target.
        steps: usize = 100,
        /// Rounds over the targets.
        restarts: usize = 1,
        /// Target classes, those of highest clean logit first; at most one less than there are classes.
        targets: usize = 9,
        /// Loss to increase.
        loss: Loss = Loss::Dlr,
        /// Share of steps of a window that must increase the loss (not in L1).
        rho: f64 = 0.75,
        /// Where each run starts; random means on the surface of the ball.
        start: Start = Start::Random,
        /// Compare the first loss with 0 instead of the start's, as auto-attack's code does (not in L1).
        zero_reference: bool = false,
        /// In L1, search within 3 eps, then 2 eps, then eps, for 30, 30 and 40 % of the steps (AutoAttack's L1 version).
        shrink: bool = true,
    }
}

parameters! {
    /// Carlini and Wagner's smallest L2 perturbation (2017), foolbox's defaults.
    CarliniWagner = "cw" {
        /// Values of the margin's weight that are tried.
        search_steps: usize = 9,
        /// Adam steps for each.
        steps: usize = 1000,
        /// Adam's step in tanh space.
        step: f64 = 0.01,
        /// Margin by which the goal must be reached, in logits.
        confidence: f64 = 0.0,
        /// First weight.
        initial_weight: f64 = 1e-3,
        /// Leave a weight when a tenth of the steps brought no progress.
        abort_early: bool = true,
    }
}

words! {
    /// Whose DeepFool.
    Convention {
        /// The perturbation accumulates unclipped and is overshot as a whole.
        Foolbox = "foolbox",
        /// Steps are clipped and overshot once at the end, by a millionth.
        Art = "art",
        /// Every step is overshot and clipped, against all classes.
        Torchattacks = "torchattacks",
    }
}

parameters! {
    /// DeepFool's small perturbation (Moosavi-Dezfooli et al. 2016), foolbox's defaults.
    DeepFool = "deepfool" {
        /// Norm to be small, `linf` or `l2`.
        norm: Norm = Norm::L2,
        /// Steps at most.
        steps: usize = 50,
        /// How far beyond the boundary, as a share of the perturbation.
        overshoot: f64 = 0.02,
        /// Classes considered, those of highest clean logit.
        candidates: usize = 10,
        /// Whose conventions.
        convention: Convention = Convention::Foolbox,
    }
}

parameters! {
    /// FAB's smallest perturbation (Croce and Hein 2020), auto-attack's parameters.
    Fab = "fab" {
        /// Norm to be small.
        norm: Norm = Norm::Linf,
        /// Steps per restart and target.
        steps: usize = 100,
        /// Rounds; the first starts at the sample.
        restarts: usize = 1,
        /// Boundaries tried one by one, those of the classes of highest clean logit; 0 looks at all classes in each step.
        targets: usize = 0,
        /// Rank of the first of them by clean logit; the predicted class has rank 0.
        first: usize = 1,
        /// Largest share of the pull towards the sample.
        alpha_max: f64 = 0.1,
        /// Overshoot beyond the boundary.
        eta: f64 = 1.05,
        /// Share of the perturbation kept after success.
        beta: f64 = 0.9,
    }
}

words! {
    /// How the Boundary attack walks.
    Walk {
        /// Many candidates in each step, step sizes from their success (ART).
        Many = "many",
        /// One candidate in each step, step sizes from running means (foolbox).
        Single = "single",
    }
}

parameters! {
    /// Boundary attack's small L2 perturbation from decisions alone (Brendel et al. 2018).
    Boundary = "boundary" {
        /// Steps along the boundary.
        steps: usize = 5000,
        /// How it walks.
        walk: Walk = Walk::Many,
        /// Candidates in a step.
        candidates: usize = 20,
        /// Attempts at a step, with other step sizes, before it stops.
        trials: usize = 25,
        /// First length of a step along the sphere around the sample, as a share of the distance.
        delta: f64 = 0.01,
        /// First length of a step towards the sample, as a share of the distance.
        epsilon: f64 = 0.01,
        /// Factor by which steps shrink.
        adapt: f64 = 0.667,
        /// Uniform draws for a first adversarial point.
        tries: usize = 1000,
        /// Start on the boundary between the draw and the sample.
        bisect: bool = true,
        /// Return the last point instead of the closest.
        last: bool = false,
    }
}

words! {
    /// In which order HopSkipJump searches and steps.
    Order {
        /// A step, then the boundary: the answer lies on it (the authors, foolbox).
        StepThenSearch = "step_then_search",
        /// The boundary, then a step: the answer lies off it, with a coarser search (ART).
        SearchThenStep = "search_then_step",
    }
}

parameters! {
    /// HopSkipJump's small perturbation from decisions alone (Chen et al. 2020), the authors' parameters.
    HopSkipJump = "hopskipjump" {
        /// Norm to be small, `linf` or `l2`.
        norm: Norm = Norm::L2,
        /// Steps.
        iterations: usize = 40,
        /// Probes of the first estimate of the boundary's normal; later ones grow with the square root of the step.
        initial_evals: usize = 100,
        /// Probes of an estimate at most.
        max_evals: usize = 10_000,
        /// Coarseness of the search for the boundary.
        gamma: f64 = 1.0,
        /// Uniform draws for a first adversarial point.
        tries: usize = 10_000,
        /// What comes first.
        order: Order = Order::StepThenSearch,
    }
}

parameters! {
    /// ZOO's small L2 perturbation from finite differences of the logits (Chen et al. 2017), the paper's CIFAR-10 parameters.
    /// On inputs of 8 bits a difference `h` below half a code sees nothing.
    Zoo = "zoo" {
        /// Values of the margin's weight that are tried.
        search_steps: usize = 9,
        /// Adam steps for each.
        steps: usize = 1000,
        /// Adam's step, in input units.
        step: f64 = 0.01,
        /// Coordinates in a step, two queries each.
        coordinates: usize = 128,
        /// Half the width of a finite difference, in input units.
        h: f64 = 1e-4,
        /// Margin by which the goal must be reached, in logits.
        confidence: f64 = 0.0,
        /// First weight.
        initial_weight: f64 = 0.01,
        /// Leave a weight when a tenth of the steps brought no progress.
        abort_early: bool = true,
    }
}

words! {
    /// AutoAttack's versions.
    Version {
        /// APGD-CE, targeted APGD-DLR, targeted FAB, Square.
        Standard = "standard",
        /// More restarts, and untargeted APGD-DLR and FAB too.
        Plus = "plus",
        /// APGD-CE and APGD-DLR for randomised models.
        Rand = "rand",
    }
}

parameters! {
    /// AutoAttack (Croce and Hein 2020): a sequence of attacks, each on the survivors of the ones before.
    AutoAttack = "autoattack" {
        /// Norm of the ball; in L1 the standard version has five restarts of APGD and five targets (Croce and Hein 2021).
        norm: Norm = Norm::Linf,
        /// Which sequence.
        version: Version = Version::Standard,
        /// Queries of its Square attack.
        queries: usize = 5000,
    }
}
