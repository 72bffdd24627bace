//! ONNX (opset 25) for other tools: trits as INT2, four to a byte, 8-bit weights as INT8.
//!
//! The graph computes the program's integers: weights are dequantized with scale 1, convolutions of codes are exact in f32
//! below 2^24 (8-bit layers that could go beyond use `ConvInteger`), and fixed-point epilogues are 64-bit integers. Where the
//! program computes f32, the graph does, a fused multiply-add through f64. Inputs are the codes `[batch, h, w, c]`.
//!
//! ONNX Runtime 1.32 rewrites `DequantizeLinear` with products into kernels that also quantize activations, unless
//! optimisations are off or `session.qdq_matmulnbits_accuracy_level` is 1.

mod graph;
mod message;

use prost::Message as _;

use crate::DeployError;
use crate::epilogue::{CodeGrid, IntegerEpilogue};
use crate::program::{Branch, Element, Epilogue, Linear, Program, StepOp, Weights, Window};
use crate::prove::interval;
use graph::{Builder, conv_attributes};
use message::{Attribute, element};

/// Version of ONNX's operator set; the first one with INT2.
pub const OPSET: i64 = 25;
/// Largest magnitude up to which f32 sums of integers are exact in any order.
const EXACT: i64 = 1 << 24;

/// The bytes of an ONNX file: outputs `accumulators` (i32) and `logits` (f32), `[batch, classes]`.
///
/// # Errors
/// As [`Program::logits`].
pub fn write(program: &Program) -> Result<Vec<u8>, DeployError> {
    program.logits()?;
    let mut g = Builder::default();
    // Codes as f32 in NCHW, one value per tensor.
    let input = g.node("Cast", &["input"], vec![Attribute::int("to", element::FLOAT.into())]);
    let mut tensors = vec![String::new(); program.tensors.len()];
    let [h, w, c] = program.input;
    let mut shapes = vec![[h, w, c]; program.tensors.len()];
    tensors[0] = g.node("Transpose", &[&input], vec![Attribute::ints("perm", &[0, 3, 1, 2])]);
    for step in &program.steps {
        match &step.op {
            StepOp::Compute { branches, epilogue, grid, output } => {
                let sums = branches
                    .iter()
                    .map(|b| accumulators(&mut g, program, b, &tensors, &shapes))
                    .collect::<Result<Vec<_>, _>>()?;
                tensors[*output] = match epilogue {
                    Epilogue::Integer(channels) => codes(&mut g, channels, *grid, &sums[0]),
                    Epilogue::Float => {
                        let values: Vec<String> =
                            sums.iter().zip(branches).map(|(s, b)| real(&mut g, b, s)).collect();
                        let sum = g.node("Add", &[&values[0], &values[1]], vec![]);
                        to_codes(&mut g, &sum, *grid)
                    }
                };
                let w = branches[0].linear.window();
                shapes[*output] = [w.out_h, w.out_w, w.out_c];
            }
            StepOp::MaxPool { window, input, output } => {
                let attributes = vec![
                    Attribute::ints("kernel_shape", &[window.kernel_h, window.kernel_w]),
                    Attribute::ints("strides", &[window.stride_h, window.stride_w]),
                ];
                tensors[*output] = g.node("MaxPool", &[&tensors[*input]], attributes);
                shapes[*output] = [window.out_h, window.out_w, window.out_c];
            }
            StepOp::SumPool { window, input, output } => {
                // A depthwise convolution with ones: unlike an average, exact.
                let (kh, kw, c) = (window.kernel_h, window.kernel_w, window.out_c);
                let ones = g.floats(&vec![1.0; kh * kw * c], &[c, 1, kh, kw]);
                tensors[*output] = g.node("Conv", &[&tensors[*input], &ones], conv_attributes(window, c));
                shapes[*output] = [window.out_h, window.out_w, window.out_c];
            }
            StepOp::Logits { branch } => {
                let sum = accumulators(&mut g, program, branch, &tensors, &shapes)?;
                let shape = g.longs(&[-1, program.classes as i64], &[2]);
                let to_i32 = vec![Attribute::int("to", element::INT32.into())];
                let integers = g.node("Cast", &[&sum], to_i32);
                g.named("Reshape", &[&integers, &shape], "accumulators");
                let value = real(&mut g, branch, &sum);
                g.named("Reshape", &[&value, &shape], "logits");
            }
        }
    }
    Ok(g.finish(program).encode_to_vec())
}

/// The accumulators of a branch as exact f32 integers `[batch, c, h, w]`, zero point subtracted.
fn accumulators(
    g: &mut Builder,
    program: &Program,
    branch: &Branch,
    tensors: &[String],
    shapes: &[[usize; 3]],
) -> Result<String, DeployError> {
    let (tensor, w) = (&program.tensors[branch.input], branch.linear.window());
    let mut x = tensors[branch.input].clone();
    if shapes[branch.input] != [w.in_h, w.in_w, w.in_c] {
        // Flattened: in the order of memory, which is NHWC.
        let nhwc = g.node("Transpose", &[&x], vec![Attribute::ints("perm", &[0, 2, 3, 1])]);
        let shape = g.longs(&[-1, w.in_c as i64, w.in_h as i64, w.in_w as i64], &[4]);
        x = g.node("Reshape", &[&nhwc, &shape], vec![]);
    }
    let mut largest = 0;
    for c in 0..w.out_c {
        let (low, high) = interval(branch, tensor, c)?;
        largest = largest.max(i64::from(low).abs()).max(i64::from(high).abs());
    }
    let (weights, groups) = match &branch.linear {
        Linear::Codes { .. } => {
            let zero = g.floats(&[f32::from(tensor.zero_point)], &[]);
            return Ok(g.node("Sub", &[&x, &zero], vec![]));
        }
        Linear::Conv2d { weights, .. } => (weights, 1),
        Linear::Depthwise { weights, .. } => (weights, w.in_c),
    };
    let rows = oihw(&branch.linear, w);
    let shape = [w.out_c, w.in_c / groups, w.kernel_h, w.kernel_w];
    let attributes = conv_attributes(w, groups);
    if largest >= EXACT && tensor.element == Element::U16 {
        // Sums of codes do not fit `ConvInteger`; only a dense layer reads them, whose product is exact in f64.
        let to_f64 = || vec![Attribute::int("to", element::DOUBLE.into())];
        let flat = g.longs(&[-1, w.in_c as i64], &[2]);
        let flat = g.node("Reshape", &[&x, &flat], vec![]);
        let wide = g.node("Cast", &[&flat], to_f64());
        let weights = g.int8(&rows, &[w.out_c, w.in_c]);
        let weights = g.node("Cast", &[&weights], to_f64());
        let columns = g.node("Transpose", &[&weights], vec![Attribute::ints("perm", &[1, 0])]);
        let product = g.node("MatMul", &[&wide, &columns], vec![]);
        let shape = g.longs(&[-1, w.out_c as i64, 1, 1], &[4]);
        return Ok(g.node("Reshape", &[&product, &shape], vec![]));
    }
    if largest >= EXACT {
        let to_u8 = vec![Attribute::int("to", element::UINT8.into())];
        let bytes = g.node("Cast", &[&x], to_u8);
        let weights = g.int8(&rows, &shape);
        let zero = g.tensor(element::UINT8, vec![tensor.zero_point], &[]);
        let sums = g.node("ConvInteger", &[&bytes, &weights, &zero], attributes);
        // f32 would round; whatever reads this casts to what it needs.
        return Ok(g.node("Cast", &[&sums], vec![Attribute::int("to", element::DOUBLE.into())]));
    }
    let zero = g.floats(&[f32::from(tensor.zero_point)], &[]);
    let x = if tensor.zero_point == 0 { x } else { g.node("Sub", &[&x, &zero], vec![]) };
    let weights = match weights {
        Weights::Trits(_) => g.int2(&rows, &shape),
        Weights::Int8(_) => g.int8(&rows, &shape),
    };
    let one = g.floats(&[1.0], &[]);
    let values = g.node("DequantizeLinear", &[&weights, &one], vec![]);
    Ok(g.node("Conv", &[&x, &values], attributes))
}

/// Weights in the order `[out, in, kh, kw]`.
fn oihw(linear: &Linear, w: &Window) -> Vec<i8> {
    let inputs = if matches!(linear, Linear::Depthwise { .. }) { 1 } else { w.in_c };
    let taps = w.kernel_h * w.kernel_w;
    let mut rows = Vec::with_capacity(w.out_c * inputs * taps);
    for c in 0..w.out_c {
        let row: Vec<i8> = linear.channel(c).collect();
        rows.extend((0..inputs).flat_map(|i| (0..taps).map(move |t| t * inputs + i)).map(|at| row[at]));
    }
    rows
}

/// The real values of accumulators, with the roundings of the trained network.
fn real(g: &mut Builder, branch: &Branch, sums: &str) -> String {
    let c = branch.affine.scale.len();
    let shape = [c, 1, 1];
    let cast = |to: i32| vec![Attribute::int("to", to.into())];
    let sums = g.node("Cast", &[sums], cast(element::FLOAT));
    let scale = g.floats(&branch.affine.scale, &shape);
    let mut y = g.node("Mul", &[&sums, &scale], vec![]);
    if let Some(bias) = &branch.affine.bias {
        let bias = g.floats(bias, &shape);
        y = g.node("Add", &[&y, &bias], vec![]);
    }
    if let Some(norm) = &branch.affine.norm {
        y = fused(g, &y, &norm.a, &norm.b);
    }
    y
}

/// `fma(y, a, b)`: the product is exact in f64.
fn fused(g: &mut Builder, y: &str, a: &[f32], b: &[f32]) -> String {
    let shape = [a.len(), 1, 1];
    let cast = |to: i32| vec![Attribute::int("to", to.into())];
    let (a, b) = (g.doubles(a, &shape), g.doubles(b, &shape));
    let wide = g.node("Cast", &[y], cast(element::DOUBLE));
    let product = g.node("Mul", &[&wide, &a], vec![]);
    let sum = g.node("Add", &[&product, &b], vec![]);
    g.node("Cast", &[&sum], cast(element::FLOAT))
}

/// `clamp(round_half_even(value * 2^shift), 0, max)`
fn to_codes(g: &mut Builder, value: &str, grid: CodeGrid) -> String {
    let scale = g.floats(&[f32::from(grid.shift).exp2()], &[]);
    let scaled = g.node("Mul", &[value, &scale], vec![]);
    let rounded = g.node("Round", &[&scaled], vec![]);
    let (zero, max) = (g.floats(&[0.0], &[]), g.floats(&[grid.max.into()], &[]));
    g.node("Clip", &[&rounded, &zero, &max], vec![])
}

/// The codes of accumulators, as f32. A layer may mix forms by channel; each form is computed for all channels and chosen
/// by a mask.
fn codes(g: &mut Builder, channels: &[IntegerEpilogue], grid: CodeGrid, sums: &str) -> String {
    let shape = [channels.len(), 1, 1];
    let cast = |to: i32| vec![Attribute::int("to", to.into())];
    let mut forms: Vec<(Vec<bool>, String)> = Vec::new();
    let is = |f: fn(&IntegerEpilogue) -> bool| -> Vec<bool> { channels.iter().map(f).collect() };
    let lines = is(|c| matches!(c, IntegerEpilogue::Multiplier { .. }));
    if lines.contains(&true) {
        let line: Vec<(i64, i64, i64)> = channels
            .iter()
            .map(|c| match c {
                IntegerEpilogue::Multiplier { multiplier, offset, shift } => {
                    (i64::from(*multiplier), *offset, 1 << shift)
                }
                _ => (0, 0, 1),
            })
            .collect();
        let column = |f: fn(&(i64, i64, i64)) -> i64| -> Vec<i64> { line.iter().map(f).collect() };
        let m = g.longs(&column(|l| l.0), &shape);
        let offset = g.longs(&column(|l| l.1), &shape);
        let one = g.longs(&column(|l| l.2), &shape);
        let acc = g.node("Cast", &[sums], cast(element::INT64));
        let product = g.node("Mul", &[&acc, &m], vec![]);
        let sum = g.node("Add", &[&product, &offset], vec![]);
        // Division cuts towards 0 where a shift floors: both are clamped to 0 below 0.
        let code = g.node("Div", &[&sum, &one], vec![]);
        let (zero, max) = (g.longs(&[0], &[]), g.longs(&[grid.max.into()], &[]));
        let clipped = g.node("Clip", &[&code, &zero, &max], vec![]);
        forms.push((lines, g.node("Cast", &[&clipped], cast(element::FLOAT))));
    }
    let lists = is(|c| matches!(c, IntegerEpilogue::Thresholds { .. }));
    if lists.contains(&true) {
        let falling = |c: &IntegerEpilogue| matches!(c, IntegerEpilogue::Thresholds { falling: true, .. });
        let signs: Vec<i64> = channels.iter().map(|c| if falling(c) { -1 } else { 1 }).collect();
        let steps: Vec<i64> = channels
            .iter()
            .flat_map(|c| match c {
                IntegerEpilogue::Thresholds { at, .. } => at.iter().map(|&t| i64::from(t)).collect(),
                _ => vec![0; usize::from(grid.max)],
            })
            .collect();
        let signs = g.longs(&signs, &shape);
        let steps = g.longs(&steps, &[channels.len(), 1, 1, usize::from(grid.max)]);
        let acc = g.node("Cast", &[sums], cast(element::INT64));
        let along = g.node("Mul", &[&acc, &signs], vec![]);
        let last = g.longs(&[-1], &[1]);
        let column = g.node("Unsqueeze", &[&along, &last], vec![]);
        let reached = g.node("GreaterOrEqual", &[&column, &steps], vec![]);
        let ones = g.node("Cast", &[&reached], cast(element::FLOAT));
        let count = g.node("ReduceSum", &[&ones, &last], vec![Attribute::int("keepdims", 0)]);
        forms.push((lists, count));
    }
    let floats = is(|c| matches!(c, IntegerEpilogue::Float { .. }));
    if floats.contains(&true) {
        let constants = |f: fn(&crate::epilogue::ChannelAffine) -> f32| -> Vec<f32> {
            let of = |c: &IntegerEpilogue| match c {
                IntegerEpilogue::Float { channel, .. } => f(channel),
                _ => 0.0,
            };
            channels.iter().map(of).collect()
        };
        let scale = g.floats(&constants(|c| c.scale), &shape);
        let bias = g.floats(&constants(|c| c.bias.unwrap_or(0.0)), &shape);
        let acc = g.node("Cast", &[sums], cast(element::FLOAT));
        let scaled = g.node("Mul", &[&acc, &scale], vec![]);
        let biased = g.node("Add", &[&scaled, &bias], vec![]);
        let (a, b) =
            (constants(|c| c.norm.map_or(1.0, |(a, _)| a)), constants(|c| c.norm.map_or(0.0, |(_, b)| b)));
        let value = fused(g, &biased, &a, &b);
        forms.push((floats, to_codes(g, &value, grid)));
    }
    let (_, mut chosen) = forms.pop().unwrap_or_default();
    for (mask, form) in forms {
        let mask = g.tensor(element::BOOL, mask.iter().map(|&m| u8::from(m)).collect(), &shape);
        chosen = g.node("Where", &[&mask, &form, &chosen], vec![]);
    }
    chosen
}
