//! Other libraries' defaults by name (`pgd(preset=torchattacks)`): for comparison, never ours.

use crate::error::ParseError;
use crate::geometry::Norm;
use crate::spec::{
    Apgd, ApgdTargeted, Attack, Bim, Boundary, Convention, DeepFool, Fgsm, HopSkipJump, Keep, Mim, Order,
    Pgd, Square, Start, Step, Walk, Zoo,
};

/// Attack, preset, and what it stands for.
type Preset = (&'static str, &'static str, fn() -> Attack);

const PRESETS: &[Preset] = &[
    // ART 1.20.1 ProjectedGradientDescent: eps_step .1, 100 steps, no random start, last iterate.
    ("pgd", "art-default", || pgd(100, Step::Absolute(0.1), Start::Clean)),
    // foolbox 3.3.4 LinfPGD.
    ("pgd", "foolbox-default", || pgd(40, Step::Relative(0.01 / 0.3), Start::Random)),
    // torchattacks 3.5.1 PGD: 10 steps of 2/255.
    ("pgd", "torchattacks-default", || pgd(10, Step::Absolute(2.0 / 255.0), Start::Random)),
    // ART 1.20.1 FastGradientMethod with `minimal`: eps_step .1.
    ("fgsm", "art-minimal", || Fgsm { search: 0.1, ..Fgsm::default() }.into()),
    // ART 1.20.1 DeepFool: an overshoot of a millionth, below the resolution of f32.
    ("deepfool", "art-default", || {
        DeepFool { steps: 100, overshoot: 1e-6, convention: Convention::Art, ..DeepFool::default() }.into()
    }),
    ("deepfool", "torchattacks-default", || {
        DeepFool { convention: Convention::Torchattacks, ..DeepFool::default() }.into()
    }),
    // ART 1.20.1 BoundaryAttack (untargeted): from noise, the last point.
    ("boundary", "art-default", || {
        Boundary { tries: 100, bisect: false, last: true, ..Boundary::default() }.into()
    }),
    // foolbox 3.3.4 BoundaryAttack.
    ("boundary", "foolbox-default", || {
        Boundary { steps: 25_000, walk: Walk::Single, adapt: 1.0 / 1.5, ..Boundary::default() }.into()
    }),
    // ART 1.20.1 HopSkipJump.
    ("hopskipjump", "art-default", || {
        let order = Order::SearchThenStep;
        HopSkipJump { iterations: 50, gamma: 0.01, tries: 100, order, ..HopSkipJump::default() }.into()
    }),
    // foolbox 3.3.4 HopSkipJumpAttack, one sample at a time (its batches share one norm).
    ("hopskipjump", "foolbox-default", || HopSkipJump { iterations: 64, ..HopSkipJump::default() }.into()),
    // ART 1.20.1 ZooAttack's settings, without its three bugs: ten steps of one small weight find next to nothing.
    ("zoo", "art-default", || {
        Zoo { search_steps: 1, steps: 10, initial_weight: 1e-3, ..Zoo::default() }.into()
    }),
    ("bim", "foolbox-default", || bim(Step::Relative(0.2))),
    ("bim", "torchattacks-default", || bim(Step::Absolute(2.0 / 255.0))),
    ("mim", "torchattacks-default", || {
        let step = Step::Absolute(2.0 / 255.0);
        Mim { steps: 10, step, keep: Keep::Last, ..Mim::default() }.into()
    }),
    ("apgd", "auto-attack", || Apgd { zero_reference: true, ..Apgd::default() }.into()),
    ("apgd_t", "auto-attack", || ApgdTargeted { zero_reference: true, ..ApgdTargeted::default() }.into()),
    ("square", "auto-attack", || Square { literal: true, ..Square::default() }.into()),
    // The paper's own parameters (max-andr/square-attack).
    ("square", "paper-linf", || {
        Square { queries: 10_000, p_init: 0.05, rescale: true, ..Square::default() }.into()
    }),
    ("square", "paper-l2", || {
        Square { norm: Norm::L2, queries: 10_000, p_init: 0.1, rescale: true, ..Square::default() }.into()
    }),
    // ART 1.20.1 SquareAttack: 100 iterations with a schedule relative to them.
    ("square", "art-default", || Square { queries: 100, rescale: true, ..Square::default() }.into()),
];

fn pgd(steps: usize, step: Step, start: Start) -> Attack {
    Pgd { steps, step, start, restarts: 1, keep: Keep::Last, ..Pgd::default() }.into()
}

fn bim(step: Step) -> Attack {
    Bim { step, keep: Keep::Last, ..Bim::default() }.into()
}

pub(crate) fn find(attack: &str, preset: &str) -> Option<Attack> {
    PRESETS.iter().find(|(a, p, _)| *a == attack && *p == preset).map(|(_, _, make)| make())
}

pub(crate) fn unknown(text: &str, attack: &str, preset: &str) -> ParseError {
    let known: Vec<&str> = PRESETS.iter().filter(|(a, ..)| *a == attack).map(|(_, p, _)| *p).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    ParseError::new(text, format!("unknown preset `{preset}` of {attack}, known: {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_parse_and_can_be_overridden() {
        for (attack, preset, make) in PRESETS {
            assert_eq!(format!("{attack}(preset={preset})").parse::<Attack>().unwrap(), make());
        }
        let Attack::Pgd(pgd) = "pgd(preset=art-default, steps=7)".parse().unwrap() else { panic!() };
        assert_eq!((pgd.steps, pgd.keep, pgd.start), (7, Keep::Last, Start::Clean));
        let error = "pgd(preset=x)".parse::<Attack>().unwrap_err();
        assert!(error.reason.contains("torchattacks-default"), "{error}");
    }
}
