//! Matrix products of other Rust crates, behind one call.

use kernels::parallel::threads;
use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

use crate::{codes, floats, trits};

/// Runs a prepared product once.
pub type Call = Box<dyn FnMut()>;

/// A crate's product of one kind.
pub struct RustPeer {
    /// Its name in tables.
    pub name: &'static str,
    /// Its version, and which of its paths run.
    pub version: String,
    /// Whether it multiplies codes with bytes, or floats.
    pub integer: bool,
    /// Prepares a product of `(m, k, n)`, weights packed where the crate can.
    pub call: fn((usize, usize, usize)) -> Call,
}

/// Every one we compare with.
pub fn rust_peers() -> [RustPeer; 3] {
    let rten = format!("0.27.0 ({})", GemmExecutor::<u8, i8, i32>::new().kernel_name());
    [
        RustPeer { name: "rten-gemm u8 x i8", version: rten, integer: true, call: rten_gemm },
        RustPeer { name: "gemm f32", version: "0.19.0 (at most AVX2)".into(), integer: false, call: gemm },
        RustPeer {
            name: "matrixmultiply f32",
            version: "0.3 (through ndarray, at most AVX2)".into(),
            integer: false,
            call: matrixmultiply,
        },
    ]
}

fn gemm((m, k, n): (usize, usize, usize)) -> Call {
    let (a, b, mut c) = (floats(m * k), floats(k * n), vec![0.0; m * n]);
    Box::new(move || kernels::peers::gemm_f32((m, k, n), &a, &b, &mut c, threads()))
}

fn matrixmultiply((m, k, n): (usize, usize, usize)) -> Call {
    let a = Array2::from_shape_vec((m, k), floats(m * k)).expect("shape");
    let b = Array2::from_shape_vec((k, n), floats(k * n)).expect("shape");
    let mut c = Array2::zeros((m, n));
    Box::new(move || general_mat_mul(1.0, &a, &b, 0.0, &mut c))
}

fn rten_gemm((m, k, n): (usize, usize, usize)) -> Call {
    let executor = GemmExecutor::<u8, i8, i32>::new();
    let (a, b, mut c) = (codes(m * k), trits(k * n), vec![0; m * n]);
    let b = executor.prepack_b(NdTensorView::from_data([k, n], &b[..]));
    Box::new(move || {
        let a = NdTensorView::from_data([m, k], &a[..]);
        executor
            .gemm(&mut c, GemmInputA::Unpacked(a), GemmInputB::Packed(&b), GemmOptions::default())
            .expect("shapes");
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn peers_run() {
        super::rust_peers().iter().for_each(|peer| (peer.call)((5, 7, 9))());
    }
}
