//! Constructors of nodes, with their shape rules.

use kernels::{Conv2d, Pool2d};
use qtensor::Quantizer;

use super::{Graph, NodeId, Nonlinearity, Op, Random, Unary};

impl Graph {
    /// A new external tensor; slots are numbered in the order of creation.
    pub fn input(&mut self, shape: &[usize]) -> NodeId {
        self.inputs += 1;
        self.push(Op::Input(self.inputs - 1), vec![], shape.to_vec())
    }

    /// Declares that an external tensor always lies on the 8-bit grid `x = (code - zero_point) * step`, so that quantized
    /// layers may read it as codes.
    ///
    /// # Panics
    /// If `input` is not an external tensor.
    pub fn declare_codes(&mut self, input: NodeId, step: f32, zero_point: u8) {
        let Op::Input(slot) = self.nodes[input.index()].op else {
            panic!("only external tensors are declared")
        };
        self.input_grids.insert(slot, (step, zero_point));
    }

    /// Gives every activation quantizer built so far a surrogate derivative of at least `leak`; gradients taken from here on
    /// see it.
    pub(crate) fn leak_activations(&mut self, leak: f64) {
        for node in &mut self.nodes {
            if let Op::Activation(Nonlinearity::Quantizer(e)) = &mut node.op {
                *e = e.leaking(leak);
            }
        }
    }

    /// Parameter `index` of the model.
    pub fn param(&mut self, index: usize, shape: &[usize]) -> NodeId {
        self.push(Op::Param(index), vec![], shape.to_vec())
    }

    /// A constant tensor.
    pub fn fill(&mut self, value: f64, shape: &[usize]) -> NodeId {
        self.push(Op::Fill(value), vec![], shape.to_vec())
    }

    /// Rows `[n, k]` with 1 in column `hot`, else 0.
    pub fn one_hot(&mut self, hot: usize, shape: &[usize]) -> NodeId {
        self.push(Op::OneHot(hot), vec![], shape.to_vec())
    }

    /// A random tensor, drawn anew in every run.
    pub fn random(&mut self, kind: Random, shape: &[usize]) -> NodeId {
        let tag = self.next_random();
        self.push(Op::Random(kind, tag), vec![], shape.to_vec())
    }

    /// `sum_i c_i x_i`; all of one shape.
    pub fn linear(&mut self, terms: &[(f64, NodeId)]) -> NodeId {
        let shape = self.shape(terms[0].1).to_vec();
        debug_assert!(terms.iter().all(|t| self.shape(t.1) == shape));
        if let [(1.0, x)] = terms {
            return *x;
        }
        let (c, x) = terms.iter().copied().unzip();
        self.push(Op::Linear(c), x, shape)
    }

    /// `a + b`
    pub fn add(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.linear(&[(1.0, a), (1.0, b)])
    }

    /// `a - b`
    pub fn sub(&mut self, a: NodeId, b: NodeId) -> NodeId {
        self.linear(&[(1.0, a), (-1.0, b)])
    }

    /// `c * x`
    pub fn scale(&mut self, c: f64, x: NodeId) -> NodeId {
        self.linear(&[(c, x)])
    }

    /// `x + c`
    pub fn add_scalar(&mut self, x: NodeId, c: f64) -> NodeId {
        self.like(Op::AddScalar(c), &[x], x)
    }

    /// Elementwise product.
    pub fn mul(&mut self, a: NodeId, b: NodeId) -> NodeId {
        debug_assert_eq!(self.shape(a), self.shape(b));
        self.like(Op::Mul, &[a, b], a)
    }

    /// Elementwise scalar function.
    pub fn unary(&mut self, f: Unary, x: NodeId) -> NodeId {
        self.like(Op::Unary(f), &[x], x)
    }

    /// `x` as a constant to derivatives.
    pub fn detach(&mut self, x: NodeId) -> NodeId {
        self.unary(Unary::Detach, x)
    }

    /// `f(x)` with the surrogate derivative of `f`.
    pub fn activation(&mut self, f: Nonlinearity, x: NodeId) -> NodeId {
        self.like(Op::Activation(f), &[x], x)
    }

    pub(super) fn activation_grad(&mut self, f: Nonlinearity, order: u32, x: NodeId, g: NodeId) -> NodeId {
        self.like(Op::ActivationGrad(f, order), &[x, g], x)
    }

    /// The quantized form of a latent kernel; stochastic quantizers draw from the stream of `tag`.
    pub fn quantize_kernel(&mut self, q: &Quantizer, tag: u64, w: NodeId) -> NodeId {
        self.like(Op::QuantizeKernel(q.clone(), tag), &[w], w)
    }

    /// `sum_t x_t * a_t[c] + b[c]` in the given shape.
    pub fn channel_affine(
        &mut self,
        terms: &[(NodeId, NodeId)],
        bias: Option<NodeId>,
        shape: &[usize],
    ) -> NodeId {
        let mut inputs: Vec<NodeId> = terms.iter().flat_map(|&(x, a)| [x, a]).collect();
        inputs.extend(bias);
        self.push(Op::ChannelAffine(terms.len(), bias.is_some()), inputs, shape.to_vec())
    }

    /// `out[c] = sum x[.., c] * y[.., c]`
    pub fn channel_dot(&mut self, x: NodeId, y: NodeId) -> NodeId {
        let c = self.last(x);
        self.push(Op::ChannelDot, vec![x, y], vec![c])
    }

    /// `out[c] = sum x[.., c]`
    pub fn channel_sum(&mut self, x: NodeId) -> NodeId {
        let c = self.last(x);
        self.push(Op::ChannelSum, vec![x], vec![c])
    }

    /// `out[n] = sum x[n, ..]`
    pub fn row_sum(&mut self, x: NodeId) -> NodeId {
        let n = self.shape(x)[0];
        self.push(Op::RowSum, vec![x], vec![n])
    }

    /// `out[n] = sum x[n, ..] * y[n, ..]`
    pub fn row_dot(&mut self, x: NodeId, y: NodeId) -> NodeId {
        let n = self.shape(x)[0];
        self.push(Op::RowDot, vec![x, y], vec![n])
    }

    /// `x[n, ..] * r[n]`
    pub fn row_scale(&mut self, x: NodeId, r: NodeId) -> NodeId {
        self.like(Op::RowScale, &[x, r], x)
    }

    /// `out[n, ..] = r[n]`
    pub fn row_broadcast(&mut self, r: NodeId, shape: &[usize]) -> NodeId {
        self.push(Op::RowBroadcast, vec![r], shape.to_vec())
    }

    /// Sum of all values, a scalar of shape `[]`.
    pub fn sum_all(&mut self, x: NodeId) -> NodeId {
        self.push(Op::SumAll, vec![x], vec![])
    }

    /// Inner product, a scalar of shape `[]`.
    pub fn dot_all(&mut self, x: NodeId, y: NodeId) -> NodeId {
        debug_assert_eq!(self.shape(x), self.shape(y));
        self.push(Op::DotAll, vec![x, y], vec![])
    }

    /// `x * s` with a scalar node `s`.
    pub fn scalar_mul(&mut self, x: NodeId, s: NodeId) -> NodeId {
        self.like(Op::ScalarMul, &[x, s], x)
    }

    pub(super) fn scalar_broadcast(&mut self, s: NodeId, shape: &[usize]) -> NodeId {
        self.push(Op::ScalarBroadcast, vec![s], shape.to_vec())
    }

    /// Row-wise `ln sum exp` of `[n, k]`.
    pub fn log_sum_exp(&mut self, z: NodeId) -> NodeId {
        let n = self.shape(z)[0];
        self.push(Op::LogSumExp, vec![z], vec![n])
    }

    /// Row-wise softmax of `[n, k]`.
    pub fn softmax(&mut self, z: NodeId) -> NodeId {
        self.like(Op::Softmax, &[z], z)
    }

    /// Convolution of `x` with `w`, depthwise if the geometry is.
    pub fn conv2d(&mut self, g: Conv2d, x: NodeId, w: NodeId) -> NodeId {
        self.push(Op::Conv(g), vec![x, w], g.output_shape().to_vec())
    }

    /// Dense layer: `[n, i]` times `[i, o]`, as a 1x1 convolution on one pixel.
    pub fn dense(&mut self, x: NodeId, w: NodeId) -> Result<NodeId, kernels::KernelError> {
        let (n, [i, o]) = (self.shape(x)[0], [self.shape(w)[0], self.shape(w)[1]]);
        let g = Conv2d::new([n, 1, 1, i], [1, 1, i, o], [1, 1], kernels::Padding::Valid)?;
        let (x, w) = (self.reshape(x, &[n, 1, 1, i]), self.reshape(w, &[1, 1, i, o]));
        let y = self.conv2d(g, x, w);
        Ok(self.reshape(y, &[n, o]))
    }

    /// Maximum over windows.
    pub fn max_pool(&mut self, g: Pool2d, x: NodeId) -> NodeId {
        self.push(Op::MaxPool(g), vec![x], vec![g.batch, g.out_h, g.out_w, g.channels])
    }

    /// Mean over windows.
    pub fn avg_pool(&mut self, g: Pool2d, x: NodeId) -> NodeId {
        self.push(Op::AvgPool(g), vec![x], vec![g.batch, g.out_h, g.out_w, g.channels])
    }

    /// The same values under another shape.
    pub fn reshape(&mut self, x: NodeId, shape: &[usize]) -> NodeId {
        if self.shape(x) == shape {
            return x;
        }
        debug_assert_eq!(self.shape(x).iter().product::<usize>(), shape.iter().product::<usize>());
        self.push(Op::Reshape, vec![x], shape.to_vec())
    }

    /// Inverted dropout with a mask drawn anew in every run.
    pub fn dropout(&mut self, rate: f64, x: NodeId) -> NodeId {
        let tag = self.next_random();
        self.like(Op::Dropout(rate, tag), &[x], x)
    }

    pub(super) fn like(&mut self, op: Op, inputs: &[NodeId], shape_of: NodeId) -> NodeId {
        let shape = self.shape(shape_of).to_vec();
        self.push(op, inputs.to_vec(), shape)
    }

    fn last(&self, x: NodeId) -> usize {
        *self.shape(x).last().expect("channel operations need at least one axis")
    }
}
