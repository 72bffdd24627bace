//! What an adversary may ask of a model: logits always, gradients sometimes. Closures will do.

use kernels::Real;

use crate::error::ModelError;

/// Anything that answers `logits(x)`.
///
/// `x` is `[n, input_len]` row-major (images NHWC), `out` is `[n, classes]`; any `n`, also zero.
/// Logits are unnormalised scores: not probabilities (the audit checks).
pub trait Classifier<T: Real = f32> {
    /// Features of one sample.
    fn input_len(&self) -> usize;

    /// Number of classes.
    fn classes(&self) -> usize;

    /// `[height, width, channels]` of one sample; attacks that perturb windows (Square) use it.
    /// A model without geometry keeps the default: one column of one channel.
    fn input_shape(&self) -> [usize; 3] {
        [self.input_len(), 1, 1]
    }

    /// Writes the logits of `n` samples.
    ///
    /// # Errors
    /// When the buffers disagree or the model itself fails.
    fn logits(&mut self, x: &[T], out: &mut [T]) -> Result<(), ModelError>;
}

/// A classifier that also gives gradients with respect to its input (for a quantized network, through its surrogates).
pub trait Differentiable<T: Real = f32>: Classifier<T> {
    /// Says whose points the rows of [`logits_vjp`](Self::logits_vjp) are from now on, by the identifiers of the samples;
    /// `None` says that an attack begins or ends. Only a model that remembers something of a sample while it is attacked
    /// needs to know ([`Rescaled::hessian_scaled`](crate::Rescaled::hessian_scaled)); a wrapper passes it on.
    fn rows_belong_to(&mut self, _ids: Option<&[u32]>) {}

    /// Vector-Jacobian product: one forward pass, then `grad = d(sum_i cot_i . z_i)/dx`.
    ///
    /// `cotangent(logits, cot)` is called after the forward pass with all `n` rows of both and overwrites `cot`; a model
    /// that averages over passes calls it once for each. Row `i` of `grad` (`[n, input_len]`) depends on row `i` of `x` alone.
    ///
    /// # Errors
    /// When the buffers disagree or the model itself fails.
    fn logits_vjp(
        &mut self,
        x: &[T],
        cotangent: &mut dyn FnMut(&[T], &mut [T]),
        logits: &mut [T],
        grad: &mut [T],
    ) -> Result<(), ModelError>;

    /// Gradients of every logit: `jacobian` is `[classes, n, input_len]`.
    ///
    /// The default repeats [`logits_vjp`](Self::logits_vjp) per class; a model that can share the forward pass overrides it.
    ///
    /// # Errors
    /// As [`logits_vjp`](Self::logits_vjp).
    fn logits_jacobian(&mut self, x: &[T], logits: &mut [T], jacobian: &mut [T]) -> Result<(), ModelError> {
        let classes = self.classes();
        check_len("jacobian", classes * x.len(), jacobian.len())?;
        if x.is_empty() {
            return Ok(());
        }
        for (class, grad) in jacobian.chunks_exact_mut(x.len()).enumerate() {
            let mut one_hot = |_: &[T], cot: &mut [T]| {
                for row in cot.chunks_exact_mut(classes) {
                    row.fill(T::ZERO);
                    row[class] = T::ONE;
                }
            };
            self.logits_vjp(x, &mut one_hot, logits, grad)?;
        }
        Ok(())
    }
}

/// What the adversary may use of a model.
pub enum Access<'m, T: Real = f32> {
    /// Logits only.
    Black(&'m mut dyn Classifier<T>),
    /// Logits and gradients.
    White(&'m mut dyn Differentiable<T>),
}

impl<T: Real> Access<'_, T> {
    /// The same access for a shorter time, so that one model can be attacked several times.
    pub fn reborrow(&mut self) -> Access<'_, T> {
        match self {
            Access::Black(m) => Access::Black(&mut **m),
            Access::White(m) => Access::White(&mut **m),
        }
    }

    /// The classifier, whichever access it is.
    pub fn classifier(&mut self) -> &mut dyn Classifier<T> {
        match self {
            Access::Black(m) => &mut **m,
            Access::White(m) => &mut **m,
        }
    }

    /// The differentiable model, when gradients may be used.
    pub fn differentiable(&mut self) -> Option<&mut dyn Differentiable<T>> {
        match self {
            Access::Black(_) => None,
            Access::White(m) => Some(&mut **m),
        }
    }
}

pub(crate) fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), ModelError> {
    if expected == got { Ok(()) } else { Err(ModelError::Length { what, expected, got }) }
}

/// Number of samples in `x`, after checking that `out` has as many rows of logits.
fn rows<T>(x: &[T], out: &[T], input_len: usize, classes: usize) -> Result<usize, ModelError> {
    let n = x.len().checked_div(input_len).unwrap_or(0);
    check_len("input", n * input_len, x.len())?;
    check_len("logits", n * classes, out.len())?;
    Ok(n)
}

/// A closure as a model without gradients: `logits(x, out)` fills `[n, classes]` from `[n, input_len]`.
pub struct FnClassifier<F> {
    shape: [usize; 3],
    classes: usize,
    logits: F,
}

impl<F> FnClassifier<F> {
    /// A model of inputs `[height, width, channels]` answering by `logits`.
    pub fn new(shape: [usize; 3], classes: usize, logits: F) -> Self {
        Self { shape, classes, logits }
    }
}

impl<T: Real, F: FnMut(&[T], &mut [T])> Classifier<T> for FnClassifier<F> {
    fn input_len(&self) -> usize {
        self.shape.iter().product()
    }
    fn classes(&self) -> usize {
        self.classes
    }
    fn input_shape(&self) -> [usize; 3] {
        self.shape
    }
    fn logits(&mut self, x: &[T], out: &mut [T]) -> Result<(), ModelError> {
        rows(x, out, self.shape.iter().product(), self.classes)?;
        (self.logits)(x, out);
        Ok(())
    }
}

/// Two closures as a differentiable model: `logits(x, out)` and the vector-Jacobian product `vjp(x, cot, grad)`.
pub struct FnDifferentiable<F, G> {
    forward: FnClassifier<F>,
    vjp: G,
}

impl<F, G> FnDifferentiable<F, G> {
    /// A model of inputs `[height, width, channels]` answering by `logits`, whose gradient is `vjp(x, cot, grad)`:
    /// `cot` is `[n, classes]`, and row `i` of `grad` (`[n, input_len]`) must become `J(x_i)^T cot_i`.
    pub fn new(shape: [usize; 3], classes: usize, logits: F, vjp: G) -> Self {
        Self { forward: FnClassifier::new(shape, classes, logits), vjp }
    }
}

impl<T: Real, F: FnMut(&[T], &mut [T]), G> Classifier<T> for FnDifferentiable<F, G> {
    fn input_len(&self) -> usize {
        self.forward.shape.iter().product()
    }
    fn classes(&self) -> usize {
        self.forward.classes
    }
    fn input_shape(&self) -> [usize; 3] {
        self.forward.shape
    }
    fn logits(&mut self, x: &[T], out: &mut [T]) -> Result<(), ModelError> {
        self.forward.logits(x, out)
    }
}

impl<T: Real, F: FnMut(&[T], &mut [T]), G: FnMut(&[T], &[T], &mut [T])> Differentiable<T>
    for FnDifferentiable<F, G>
{
    fn logits_vjp(
        &mut self,
        x: &[T],
        cotangent: &mut dyn FnMut(&[T], &mut [T]),
        logits: &mut [T],
        grad: &mut [T],
    ) -> Result<(), ModelError> {
        check_len("gradient", x.len(), grad.len())?;
        self.forward.logits(x, logits)?;
        let mut cot = vec![T::ZERO; logits.len()];
        cotangent(logits, &mut cot);
        (self.vjp)(x, &cot, grad);
        Ok(())
    }
}
