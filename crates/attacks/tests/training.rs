//! Adversarial training through qnn's loop: it makes networks harder to attack, resumes bit for bit, and refuses nonsense.

use attacks::training::{AdversarialTraining, Method};
use attacks::{Access, Classifier, InputBox, Network as Attacked, Options, Passing, Samples, run};
use qnn::train::{Adversary, Optimizer, Penalty, Schedule, TrainConfig, Trainer};
use qnn::zoo::{Quantizers, Twin};
use qnn::{InputGrid, Model, Network, QnnError};

/// Two classes told by a spot that is right 19 times out of 20 and too bright to be attacked, and, without an error, by a
/// shade over the whole image that any attack of its size turns around (Tsipras et al. 2019).
struct Spots;

const SAMPLES: usize = 256;

impl qnn::train::Samples for Spots {
    fn len(&self) -> usize {
        SAMPLES
    }

    fn fill(&self, indices: &[u32], _: u64, x: &mut [f32], labels: &mut [u8]) -> Result<(), QnnError> {
        for ((image, label), &index) in x.chunks_mut(64).zip(labels).zip(indices) {
            let mut rng = qtensor::stream::stream(9, qtensor::stream::Purpose::Test, &[u64::from(index)]);
            *label = (index % 2) as u8;
            let sign = if *label == 1 { 1.0 } else { -1.0 };
            let spot = if qtensor::stream::uniform_f32(&mut rng) < 0.95 { sign } else { -sign };
            for (i, v) in image.iter_mut().enumerate() {
                let noise = 0.2 * qtensor::stream::uniform_f32(&mut rng) - 0.1;
                let inside = i / 8 < 3 && i % 8 < 3;
                *v = 0.5 + if inside { 0.35 * spot } else { 0.04 * sign + noise };
            }
        }
        Ok(())
    }
}

fn model(twin: Twin) -> Model {
    let Quantizers { weights, activations, .. } = twin.quantizers();
    let net = Network::new("spots", [8, 8, 1], InputGrid::UNIT_IMAGE, 2)
        .conv("c1", 8, 3, 1, &weights)
        .bn_act("c1", &activations)
        .max_pool("p1", 2)
        .classifier(&weights);
    Model::new(net, 1).unwrap()
}

fn trainer(twin: Twin, adversary: Option<Box<dyn Adversary>>) -> Trainer {
    let config = TrainConfig {
        batch: 32,
        epochs: EPOCHS,
        rate: 0.01,
        optimizer: Optimizer::adam(),
        schedule: Schedule::Constant,
        label_smoothing: 0.0,
        clip_norm: None,
        ema: None,
        patience: None,
        recalibrate: 4,
        seed: 5,
    };
    let trainer = Trainer::new(model(twin), config, Vec::<Box<dyn Penalty>>::new()).unwrap();
    match adversary {
        None => trainer,
        Some(adversary) => trainer.adversarial(adversary).unwrap(),
    }
}

fn trained(twin: Twin, settings: Option<AdversarialTraining>) -> Model {
    let mut trainer = trainer(twin, settings.map(|s| s.adversary().unwrap()));
    for _ in 0..EPOCHS {
        trainer.train_epoch(&Spots, &mut |_, _| ()).unwrap();
    }
    trainer.model().clone()
}

/// Robust accuracy at `eps`.
fn robust(model: &Model, eps: f32) -> f64 {
    use qnn::train::Samples as _;
    let (mut x, mut y) = (vec![0.0; 128 * 64], vec![0; 128]);
    let indices: Vec<u32> = (0..128).collect();
    Spots.fill(&indices, 0, &mut x, &mut y).unwrap();
    let mut network = Attacked::new(model, Passing::Clipped).unwrap();
    let samples = Samples::new(&x, &y, &indices);
    let attack = "pgd(steps=20, restarts=1, loss=margin)".parse().unwrap();
    let options = &mut Options::default();
    let out = run(&attack, Access::White(&mut network), &samples, &[eps], &InputBox::unit(), 0, options);
    out.unwrap()[0].robust_accuracy().value
}

const EPS: f32 = 0.08;
const EPOCHS: u32 = 12;

#[test]
fn adversarial_training_makes_networks_harder_to_attack() {
    let plain = robust(&trained(Twin::Float, None), EPS);
    for method in [Method::Pgd, Method::FgsmRs, Method::Trades] {
        let hardened = robust(&trained(Twin::Float, Some(AdversarialTraining::new(method, EPS))), EPS);
        println!("{method}: {hardened} robust, {plain} without");
        assert!(hardened > plain + 0.1, "{method}: {hardened}, plain {plain}");
    }
    // Through the stochastic ternary quantizer's surrogate, too.
    let stq = robust(&trained(Twin::Stq, Some(AdversarialTraining::new(Method::Pgd, EPS))), EPS);
    let plain = robust(&trained(Twin::Stq, None), EPS);
    println!("stq: {stq} robust, {plain} without");
    assert!(stq >= plain);
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let settings = AdversarialTraining { steps: 2, ..AdversarialTraining::new(Method::Trades, EPS) };
    let (a, b) = (trained(Twin::Stq, Some(settings.clone())), trained(Twin::Stq, Some(settings)));
    assert_eq!(a, b);
}

#[test]
fn surrogates_share_logits_and_differ_in_gradients() {
    let model = trained(Twin::Stq, None);
    let x: Vec<f32> = (0..8 * 64).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
    let ask = |passing| {
        let mut network = Attacked::new(&model, passing).unwrap();
        let (mut z, mut grad) = (vec![0.0; 8 * network.classes()], vec![0.0; x.len()]);
        let mut cotangent = |_: &[f32], cot: &mut [f32]| cot.iter_mut().step_by(2).for_each(|c| *c = 1.0);
        attacks::Differentiable::logits_vjp(&mut network, &x, &mut cotangent, &mut z, &mut grad).unwrap();
        (z, grad)
    };
    let (clipped, identity, leaky) = (ask(Passing::Clipped), ask(Passing::Identity), ask(Passing::Leaky));
    assert!(clipped.0 == identity.0 && clipped.0 == leaky.0);
    assert!(clipped.1 != identity.1 && clipped.1 != leaky.1 && identity.1 != leaky.1);
}

/// Kernels drawn anew in every pass: averages over draws settle, one seed gives one sequence, deterministic models are refused.
#[test]
fn sampled_networks_are_random_and_averages_over_draws_are_less_so() {
    let model = trained(Twin::Stq, None);
    let x: Vec<f32> = (0..8 * 64).map(|i| (i * 37 % 101) as f32 / 100.0).collect();
    let sampling = |seed| Attacked::sampling(&model, Passing::Clipped, seed).unwrap();
    let ask = |model: &mut dyn Classifier<f32>| {
        let mut z = vec![0.0; 8 * model.classes()];
        model.logits(&x, &mut z).unwrap();
        z
    };
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
    let (mut one, mut same, mut other) = (sampling(1), sampling(1), sampling(2));
    let passes = [ask(&mut one), ask(&mut one)];
    assert_eq!(passes, [ask(&mut same), ask(&mut same)]);
    assert!(passes[0] != passes[1] && passes[0] != ask(&mut other));
    let averages = [3, 4].map(|seed| ask(&mut attacks::Eot::new(&mut sampling(seed), 64)));
    assert!(distance(&averages[0], &averages[1]) < 0.5 * distance(&passes[0], &passes[1]));
    // A gradient comes with the logits of its own draw.
    let mut z = vec![0.0; passes[0].len()];
    let mut grad = vec![0.0; x.len()];
    let mut ones = |_: &[f32], cot: &mut [f32]| cot.fill(1.0);
    attacks::Differentiable::logits_vjp(&mut sampling(1), &x, &mut ones, &mut z, &mut grad).unwrap();
    assert_eq!(z, passes[0]);
    assert!(grad.iter().any(|g| *g != 0.0));
    let error =
        Attacked::sampling(&trained(Twin::EightBit, None), Passing::Clipped, 1).unwrap_err().to_string();
    assert!(error.contains("deterministic"), "{error}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let good = AdversarialTraining::new(Method::FgsmRs, EPS);
    assert!(good.adversary().is_ok());
    for (bad, word) in [
        (AdversarialTraining { eps: f32::NAN, ..good.clone() }, "eps"),
        (AdversarialTraining { step: 0.0, ..good.clone() }, "step"),
        (AdversarialTraining { steps: 3, ..good.clone() }, "one step"),
        (AdversarialTraining { check_every: 0, ..good.clone() }, "check_every"),
    ] {
        let error = bad.adversary().unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
