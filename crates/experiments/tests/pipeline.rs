//! The real engine end to end on generated data, as small as it goes: every kind of network the study has.
use std::path::Path;

use attacks::Norm;
use datasets::DataSearch;
use experiments::examples::ExampleSet;
use experiments::pipeline::Pipeline;
use experiments::progress::Silent;
use experiments::recipe::{Profile, RecipeSet};
use experiments::results::{Measure, Results, Row};
use experiments::stage::{Options, Study};
use qnn::{LayerOp, Model, Predictor};
use sha2::Digest;

/// The smoke profile of a built-in recipe with less of everything.
fn tiny(dir: &Path, recipe: &str, extra: &str) -> RecipeSet {
    let task = if recipe.contains("audio") || recipe.contains("ds_cnn") { "keywords" } else { "shapes" };
    let text = format!(
        r#"
extends = "{recipe}"
name = "tiny_{recipe}"
[profile.smoke]
[profile.smoke.dataset]
task = "synthetic_{task}"
folds = []
train_samples = 96
validation_samples = 20
[profile.smoke.augmentation]
time_shift_ms = 0
noise_probability = 0.0
[profile.smoke.schedule]
epochs = 1
batch = 16
[profile.smoke.evaluate]
samples = 24
attack_samples = 6
audit_samples = 6
audit_steps = 2
audit_queries = 5
[[profile.smoke.attacks]]
attack = "pgd(norm=linf, steps=2, restarts=1)"
role = "strong"
eps = [0.01, 0.1]
{extra}"#
    );
    let path = dir.join(format!("{recipe}.toml"));
    std::fs::write(&path, text).unwrap();
    RecipeSet::open(path.to_str().unwrap()).unwrap()
}

fn run(out: &Path, recipes: Vec<RecipeSet>) -> Vec<Row> {
    let engine = Pipeline::new(DataSearch::default());
    let options = Options {
        profile: Profile::Smoke,
        recipes,
        out: out.to_owned(),
        seed: Some(5),
        only: None,
        shard: None,
    };
    let study = Study::new(&engine, &Silent, options);
    let summary = study.run(&study.plan()).unwrap();
    // An audit without a single correct sample refuses, and one epoch promises none.
    let failed: Vec<_> = summary.failed.iter().filter(|f| !f.2.contains("audit")).collect();
    assert!(failed.is_empty(), "{failed:?}");
    Results::read(out).unwrap().rows
}

#[test]
fn a_ternary_network_goes_from_data_to_an_integer_program_that_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let rows = run(dir.path(), vec![tiny(dir.path(), "stq_audio_s_jr", "")]);
    let row = |measure| rows.iter().find(|r| r.measure == measure).unwrap();
    let footprint = row(Measure::Clean).footprint.as_ref().unwrap();
    assert!(footprint.integer && footprint.flash < 32 * 1024, "{footprint:?}");
    assert_eq!(footprint.agreement, Some(1.0));
    assert_eq!(row(Measure::Clean).correct, row(Measure::Deployed).correct);
    let attacked: Vec<&Row> = rows.iter().filter(|r| r.measure == Measure::Attack).collect();
    assert_eq!(attacked.len(), 2);
    assert!(attacked.iter().all(|r| r.samples == 6 && r.correct <= r.clean_correct));
    assert!(attacked[1].correct <= attacked[0].correct, "a larger size cannot leave more standing here");
}

#[test]
fn examples_of_the_strongest_attack_of_each_size_are_kept_and_check() {
    let dir = tempfile::tempdir().unwrap();
    let noise = "[[profile.smoke.attacks]]\nattack = \"noise(draws=1)\"\nrole = \"strong\"\neps = [0.1]\n";
    let rows = run(dir.path(), vec![tiny(dir.path(), "stq_audio_s", noise)]);
    let model = dir.path().join("cache").join(format!("train-{}", rows[0].stages["train"])).join("model.qnn");
    let mut model = Predictor::for_codes(&Model::load(&model).unwrap()).unwrap();
    let folder = dir.path().join("artefacts/smoke");
    for (eps, text) in [(0.01f32, "0.01"), (0.1, "0.1")] {
        let path = folder.join(format!("{}.linf-{text}.examples.npz", rows[0].run_name()));
        let mut set = ExampleSet::load(&path).unwrap();
        assert_eq!((set.len(), set.norm, set.eps), (6, Norm::Linf, eps));
        assert_eq!(set.check(&mut model).unwrap(), Vec::<String>::new());
        let attacked = |r: &&Row| r.measure == Measure::Attack && r.eps_text == text;
        let pgd = rows.iter().filter(attacked).find(|r| r.attack.starts_with("pgd")).unwrap();
        // Rounding to codes may lose an example or two, it cannot add samples.
        assert_eq!(set.counts().0, pgd.clean_correct);
        assert!(set.counts().1 <= set.counts().0);
        set.adversarial[0] = set.clean[0].wrapping_add(128);
        assert!(set.check(&mut model).unwrap()[0].contains("linf distance"));
    }
}

#[test]
fn a_float_network_has_no_integer_program_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let rows = run(dir.path(), vec![tiny(dir.path(), "stq_audio_s_float", "")]);
    assert!(rows.iter().all(|r| r.measure != Measure::Deployed));
    let footprint = rows[0].footprint.as_ref().unwrap();
    assert!(!footprint.integer && footprint.note.contains("no integer program"), "{footprint:?}");
}

#[test]
fn bits_by_sensitivity_are_chosen_kept_and_deployed() {
    let dir = tempfile::tempdir().unwrap();
    let extra = "[profile.smoke.network.sensitivity]\nepochs = 1\nsamples = 64\n";
    let rows = run(dir.path(), vec![tiny(dir.path(), "quanos_more_bits", extra)]);
    assert!(rows[0].footprint.as_ref().unwrap().integer);
    let train = dir.path().join("cache").join(format!("train-{}", rows[0].stages["train"]));
    let bits: Vec<u32> = serde_json::from_slice(&std::fs::read(train.join("bits.json")).unwrap()).unwrap();
    assert_eq!(bits.len(), 7);
    assert!(bits.contains(&2) && bits.contains(&8) && bits.iter().all(|b| (2..=8).contains(b)), "{bits:?}");
}

#[test]
fn dilations_multipliers_and_quantized_normalisations_are_trained_attacked_and_deployed() {
    let dir = tempfile::tempdir().unwrap();
    let layers = "[network.dilations]\ndw1 = [2, 1]\n[network.multipliers]\ndw2 = 2\n[network.batch_norms]\nqkeras = true\n";
    let rows = run(dir.path(), vec![tiny(dir.path(), "ds_cnn_stq", layers)]);
    let train = dir.path().join("cache").join(format!("train-{}", rows[0].stages["train"]));
    let model = Model::load(&train.join("model.qnn")).unwrap();
    assert_eq!(model.param("dw2/kernel").unwrap().shape, [3, 3, 64, 2]);
    assert!(model.network.layers.iter().all(|l| match &l.op {
        LayerOp::BatchNorm { quantizers, .. } => quantizers.is_some(),
        LayerOp::DepthwiseConv2d { dilation, .. } => (*dilation == [2, 1]) == (l.name == "dw1"),
        _ => true,
    }));
    // The integer program is there and answers what the network answers.
    let row = |measure| rows.iter().find(|r| r.measure == measure).unwrap();
    assert!(rows[0].footprint.as_ref().unwrap().integer);
    assert_eq!(row(Measure::Clean).correct, row(Measure::Deployed).correct);
}

#[test]
fn single_layers_get_their_own_quantizers_and_training_starts_where_a_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let trained = |rows: &[Row]| {
        let path =
            dir.path().join("cache").join(format!("train-{}", rows[0].stages["train"])).join("model.qnn");
        (Model::load(&path).unwrap(), path)
    };
    let layers = "[network.layers]\nconv1 = \"quantized_bits(8, 0, alpha=auto)\"\nlogits = \"none\"\n";
    let (model, path) = trained(&run(dir.path(), vec![tiny(dir.path(), "stq_audio_s", layers)]));
    let quantizer = |name: &str| {
        let layer = model.network.layers.iter().find(|layer| layer.name == name).unwrap();
        qnn::kernel_quantizer(&layer.op).map(ToString::to_string)
    };
    assert!(quantizer("conv1").unwrap().starts_with("quantized_bits(8"));
    assert!(quantizer("conv2").unwrap().starts_with("stochastic_ternary"));
    assert_eq!(quantizer("logits"), None);

    // A step this small leaves what it starts from where it was.
    let start = |file: &Path, digest: &str| {
        let part = format!(
            "{layers}[network.start]\nfile = \"{}\"\nsha256 = \"{digest}\"\n[schedule]\nlr = 1e-12\n",
            file.display()
        );
        tiny(dir.path(), "stq_audio_s", &part)
    };
    let digest: String =
        sha2::Sha256::digest(std::fs::read(&path).unwrap()).iter().map(|b| format!("{b:02x}")).collect();
    let (again, _) = trained(&run(dir.path(), vec![start(&path, &digest)]));
    for (a, b) in model.params.iter().zip(&again.params).filter(|(a, _)| a.name.ends_with("kernel")) {
        let apart = a.values.iter().zip(&b.values).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-6, "{}: {apart}", a.name);
    }
    let engine = Pipeline::new(DataSearch::default());
    let recipes = vec![start(&path, &digest.replace(['0', '1'], "2"))];
    let options = Options {
        profile: Profile::Smoke,
        recipes,
        out: dir.path().into(),
        seed: Some(5),
        only: None,
        shard: None,
    };
    let study = Study::new(&engine, &Silent, options);
    let summary = study.run(&study.plan()).unwrap();
    assert!(summary.failed[0].2.contains("the recipe says"), "{:?}", summary.failed);
}
