//! What cannot be lowered is an error that names the layer.

mod common;

use common::{q, random_model, small_networks};
use deploy::{DeployError, Weights, lower};
use qnn::network::{BATCH_NORM, InputGrid, LayerOp, Network, conv2d};
use qnn::zoo::{self, Twin};

fn refusal(network: Network) -> String {
    let model = random_model(network, 1);
    lower(&model.network, &model).unwrap_err().to_string()
}

#[test]
fn layers_without_integer_form_are_named() {
    let (w, a) = (q("ternary(alpha=auto)"), q("quantized_relu(8, 2)"));
    let new = || Network::new("n", [6, 6, 2], InputGrid::UNIT_IMAGE, 3);
    let act = |text: &str| LayerOp::Activation { quantizer: q(text) };
    let conv = || conv2d(4, [3, 3], [1, 1], false, &w);
    for (network, layer, reason) in [
        (new().conv("c", 4, 3, 1, &None).bn_act("c", &a).classifier(&w), "`c`", "float"),
        (new().then("c", conv()).bn_act("c", &None).classifier(&w), "`c_act`", "ReLU"),
        (new().then("c", conv()).then("act", act("quantized_relu(9, 2)")).classifier(&w), "`act`", "8 bits"),
        (
            new().then("c", conv()).then("act", act("quantized_bits(8, 2)")).classifier(&w),
            "`act`",
            "quantized_relu",
        ),
        (new().then("c", conv()).then("c2", conv()).bn_act("c2", &a).classifier(&w), "`c2`", "code grid"),
        (new().then("c", conv()).max_pool("p", 2).classifier(&w), "`p`", "code grid"),
        (new().then("bn", BATCH_NORM).then("c", conv()).bn_act("c", &a).classifier(&w), "`bn`", "follow"),
        (
            new()
                .then("p", LayerOp::AvgPool { size: [2, 2], stride: [2, 2] })
                .then("c", conv())
                .bn_act("c", &a)
                .classifier(&w),
            "`c`",
            "average pool",
        ),
    ] {
        let message = refusal(network);
        assert!(message.contains(layer) && message.contains(reason), "{message}");
    }
    let float =
        zoo::build("stq_image_s", [32, 32, 3], InputGrid::UNIT_IMAGE, 10, &Twin::Float.quantizers()).unwrap();
    assert!(refusal(float).contains("`conv1`"));
}

#[test]
fn parameters_are_checked() {
    struct Without<'a>(&'a qnn::Model, &'a str, bool);
    impl Weights for Without<'_> {
        fn parameter(&self, name: &str) -> Option<(&[usize], &[f32])> {
            let p = self.0.param(name)?;
            match (name == self.1, self.2) {
                (true, true) => None,
                (true, false) => Some((&[1], &p.values[..1])),
                _ => Some((&p.shape, &p.values)),
            }
        }
    }
    let network =
        small_networks("ternary(alpha=auto)", "quantized_relu(8, 2)", InputGrid::UNIT_IMAGE).swap_remove(0);
    let model = random_model(network, 1);
    let missing = lower(&model.network, &Without(&model, "c1_bn/gamma", true)).unwrap_err();
    assert!(
        matches!(missing, DeployError::MissingParameter { ref name } if name == "c1_bn/gamma"),
        "{missing}"
    );
    let bent = lower(&model.network, &Without(&model, "c2/kernel", false)).unwrap_err();
    assert!(matches!(bent, DeployError::ParameterShape { ref name, .. } if name == "c2/kernel"), "{bent}");

    let mut broken = model.clone();
    let gamma = broken.index_of("c2_bn/gamma").unwrap();
    broken.params[gamma].values[4] = f32::NAN;
    let error = lower(&broken.network, &broken).unwrap_err();
    assert!(
        matches!(error, DeployError::NotFinite { ref layer, channel: 4, .. } if layer == "c2"),
        "{error}"
    );
}
