//! Networks of the reference files, rebuilt from their weights: torch layouts become ours, and ours become torch's again.
//!
//! The weights are named `w.c1.weight`, `w.b1.weight` (batch normalisation), ..., `w.fc.weight`. Convolutions have odd kernels
//! and half their size of padding on every side. Strides and pools are not in the file: they follow from the classifier's
//! width and, where that leaves a choice, from the reference logits or cross-entropy.

use qnn::network::conv2d;
use qnn::{InputGrid, LayerOp, Model, Network};

use super::arrays::{Array, Arrays, permute};

/// One parameter of the reference and where it lies in ours.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    /// Name in the reference, such as `c1.weight`.
    pub(super) name: String,
    /// Index among the model's parameters.
    pub(super) index: usize,
    shape: Vec<usize>,
    form: Form,
}

/// How a reference parameter is laid out.
#[derive(Clone, Copy, Debug)]
enum Form {
    Vector,
    /// OIHW against `[kh + e, kw + e, cin, cout]` with `e` trailing rows and columns of zeros.
    Conv,
    /// `[out, c * h * w]` against `[h * w * c, out]`.
    Dense([usize; 3]),
}

/// A network of ours with the reference's weights.
#[derive(Debug)]
pub(super) struct Torch {
    pub(super) model: Model,
    /// Parameters in double precision.
    pub(super) params: Vec<Vec<f64>>,
    pub(super) weights: Vec<Weight>,
}

/// What one convolution may be followed by, and its stride.
type Stage = (usize, bool);

impl Torch {
    /// Every network that fits weights and input, the likeliest first.
    pub(super) fn candidates(arrays: &Arrays, input: [usize; 3]) -> Result<Vec<Self>, String> {
        let convs = (1..).take_while(|l| arrays.contains_key(&format!("w.c{l}.weight"))).count();
        let known = |name: &str| {
            let stem = name.split('.').next().unwrap_or(name);
            let number = stem[1..].parse::<usize>().ok();
            stem == "fc" || (stem.starts_with(['c', 'b']) && number.is_some_and(|n| (1..=convs).contains(&n)))
        };
        if let Some(odd) =
            arrays.keys().filter_map(|k| k.strip_prefix("w.")).find(|k| k.is_empty() || !known(k))
        {
            return Err(format!(
                "a weight `{odd}` in a network of convolutions c1..c{convs} and a classifier fc"
            ));
        }
        let normalised = arrays.contains_key("w.b1.weight");
        let usual: Vec<Stage> = (0..convs)
            .map(|l| if normalised { (1, true) } else { (1 + usize::from(l > 0), false) })
            .collect();
        let mut orders = vec![usual];
        for code in 0..4usize.pow(u32::try_from(convs.min(6)).unwrap_or(6)) {
            let stages =
                (0..convs).map(|l| (1 + (code >> (2 * l) & 1), code >> (2 * l + 1) & 1 == 1)).collect();
            orders.push(stages);
        }
        let mut fitting = Vec::new();
        for (i, stages) in orders.iter().enumerate() {
            if !orders[..i].contains(stages)
                && let Some(torch) = Self::build(arrays, input, stages)?
            {
                fitting.push(torch);
            }
        }
        if fitting.is_empty() {
            return Err(format!("no strides and pools lead from input {input:?} to the classifier's width"));
        }
        Ok(fitting)
    }

    /// The network with these strides and pools, unless the classifier has another width.
    fn build(arrays: &Arrays, input: [usize; 3], stages: &[Stage]) -> Result<Option<Self>, String> {
        let array = |name: String| arrays.get(&name).ok_or_else(|| format!("there is no array `{name}`"));
        let classes = array("w.fc.bias".into())?.values.len();
        let mut net = Network::new("reference", input, InputGrid::UNIT_IMAGE, classes);
        let mut size = input;
        for (l, (stride, pool)) in stages.iter().enumerate() {
            let l = l + 1;
            let &[filters, cin, kh, kw] = &array(format!("w.c{l}.weight"))?.shape[..] else {
                return Err(format!("`w.c{l}.weight` is not [out, in, height, width]"));
            };
            if cin != size[2] || kh % 2 == 0 || kw % 2 == 0 {
                return Err(format!("`w.c{l}.weight` takes {cin} channels of {}, kernel {kh}x{kw}", size[2]));
            }
            let (Some(eh), Some(ew)) = (extra(size[0], kh, *stride), extra(size[1], kw, *stride)) else {
                return Ok(None);
            };
            let bias = arrays.contains_key(&format!("w.c{l}.bias"));
            net = net
                .then(&format!("c{l}"), conv2d(filters, [kh + eh, kw + ew], [*stride, *stride], bias, &None));
            if arrays.contains_key(&format!("w.b{l}.weight")) {
                net = net.then(
                    &format!("b{l}"),
                    LayerOp::BatchNorm { eps: 1e-5, momentum: 0.9, quantizers: None },
                );
            }
            net = net.then(&format!("h{l}"), LayerOp::Activation { quantizer: None });
            size = [size[0].div_ceil(*stride), size[1].div_ceil(*stride), filters];
            if *pool {
                net = net.max_pool(&format!("p{l}"), 2);
                size = [size[0] / 2, size[1] / 2, filters];
            }
        }
        let dense = array("w.fc.weight".into())?;
        if dense.shape != [classes, size.iter().product()] || size.contains(&0) {
            return Ok(None);
        }
        let net = net
            .then("flatten", LayerOp::Flatten)
            .then("fc", LayerOp::Dense { units: classes, bias: true, quantizer: None });
        let model = Model::new(net, 0).map_err(|e| e.to_string())?;
        Self::fill(model, arrays, size).map(Some)
    }

    fn fill(model: Model, arrays: &Arrays, last: [usize; 3]) -> Result<Self, String> {
        let (mut params, mut weights) = (Vec::new(), Vec::new());
        for (index, param) in model.params.iter().enumerate() {
            let (layer, suffix) = param.name.split_once('/').unwrap_or((&param.name, ""));
            let suffix = match suffix {
                "kernel" | "gamma" => "weight",
                "bias" | "beta" => "bias",
                "moving_mean" => "running_mean",
                _ => "running_var",
            };
            let name = format!("{layer}.{suffix}");
            let array =
                arrays.get(&format!("w.{name}")).ok_or_else(|| format!("there is no weight `{name}`"))?;
            let form = match array.shape.len() {
                4 => Form::Conv,
                2 => Form::Dense(last),
                _ => Form::Vector,
            };
            let weight = Weight { name, index, shape: array.shape.clone(), form };
            let values = weight.import(array, &param.shape);
            if values.len() != param.values.len() {
                return Err(format!("`{}` has shape {:?}", weight.name, array.shape));
            }
            params.push(values);
            weights.push(weight);
        }
        Ok(Self { model, params, weights })
    }
}

impl Weight {
    /// Reference values in our layout.
    fn import(&self, array: &Array, ours: &[usize]) -> Vec<f64> {
        match self.form {
            Form::Vector => array.values.clone(),
            Form::Conv => {
                let [kh, kw] = [self.shape[2], self.shape[3]];
                let inner = self.shape[0] * self.shape[1];
                let compact = permute(array, [2, 3, 1, 0]);
                let mut values = vec![0.0; ours.iter().product()];
                for y in 0..kh {
                    let (from, to) = (y * kw * inner, y * ours[1] * inner);
                    values[to..to + kw * inner].copy_from_slice(&compact[from..from + kw * inner]);
                }
                values
            }
            Form::Dense([h, w, c]) => {
                let whole = Array { shape: vec![self.shape[0], c, h, w], values: array.values.clone() };
                permute(&whole, [2, 3, 1, 0])
            }
        }
    }

    /// Values (or a gradient) of ours in the reference's layout.
    pub(super) fn export(&self, values: &[f64], ours: &[usize]) -> Vec<f64> {
        match self.form {
            Form::Vector => values.to_vec(),
            Form::Conv => {
                let [o, i, kh, kw] = self.shape[..] else { return Vec::new() };
                let mut compact = Vec::with_capacity(o * i * kh * kw);
                for y in 0..kh {
                    let from = y * ours[1] * i * o;
                    compact.extend_from_slice(&values[from..from + kw * i * o]);
                }
                permute(&Array { shape: vec![kh, kw, i, o], values: compact }, [3, 2, 0, 1])
            }
            Form::Dense([h, w, c]) => {
                let whole = Array { shape: vec![h, w, c, self.shape[0]], values: values.to_vec() };
                permute(&whole, [3, 2, 0, 1])
            }
        }
    }
}

/// Rows of zeros to add to a kernel so that SAME padding, which puts the odd row at the bottom, starts where padding by half
/// the kernel on both sides starts.
fn extra(input: usize, kernel: usize, stride: usize) -> Option<usize> {
    let (out, half) = (input.div_ceil(stride), kernel / 2);
    (0..=stride).find(|e| ((out.max(1) - 1) * stride + kernel + e).saturating_sub(input) / 2 == half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_grow_only_where_padding_would_differ() {
        assert_eq!(extra(16, 3, 1), Some(0));
        assert_eq!(extra(16, 3, 2), Some(1));
        assert_eq!(extra(15, 3, 2), Some(0));
        assert_eq!(extra(16, 5, 1), Some(0));
    }

    #[test]
    fn layouts_survive_the_way_there_and_back() {
        let count = |shape: &[usize]| (0..shape.iter().product()).map(|i: usize| i as f64 + 1.0).collect();
        for (form, shape, ours) in [
            (Form::Conv, vec![4, 3, 3, 3], vec![4, 4, 3, 4]),
            (Form::Conv, vec![2, 5, 1, 3], vec![1, 3, 5, 2]),
            (Form::Dense([2, 3, 5]), vec![7, 30], vec![30, 7]),
        ] {
            let array = Array { shape: shape.clone(), values: count(&shape) };
            let weight = Weight { name: "c1.weight".into(), index: 0, shape, form };
            let imported = weight.import(&array, &ours);
            assert_ne!(imported, array.values);
            assert_eq!(weight.export(&imported, &ours), array.values);
        }
    }
}
