//! After its first calls an operation allocates nothing: scratch memory is grown once per thread and kept.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use kernels::dispatch::Kernel;
use kernels::epilogue::Accumulators;
use kernels::gemm::MatRef;
use kernels::ternary::{Form, Packed};
use kernels::{Conv2d, Padding, Pool2d, channel, conv2d, depthwise, gemm, int8, pool, ternary};

/// Counts the allocations of the current thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: forwards every call unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread being torn down has no counter any more.
        let _ = COUNT.try_with(|c| c.set(c.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of one call of `f` once two calls have warmed it up, on one thread.
fn allocations(mut f: impl FnMut() + Send) -> usize {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    pool.install(move || {
        f();
        f();
        let before = COUNT.get();
        f();
        COUNT.get() - before
    })
}

#[test]
fn float_operations_allocate_nothing_once_warm() {
    for stride in [1, 2] {
        let g = Conv2d::new([4, 12, 12, 16], [3, 3, 16, 24], [stride; 2], Padding::Same).expect("geometry");
        let d =
            Conv2d::depthwise([4, 12, 12, 16], [3, 3, 16, 1], [stride; 2], Padding::Same).expect("geometry");
        let p = Pool2d::new([4, 12, 12, 16], [2; 2], [stride; 2], Padding::Same).expect("geometry");
        let (mut x, w, mut y) =
            (vec![1.0_f32; g.input_len()], vec![1.0_f32; g.kernel_len()], vec![1.0_f32; g.output_len()]);
        let (mut dw, mut sums) = (w.clone(), vec![0.0; 16]);
        assert_eq!(
            0,
            allocations(|| {
                conv2d::forward(&g, &x, &w, &mut y).expect("shapes");
                conv2d::input_grad(&g, &y, &w, &mut x).expect("shapes");
                conv2d::weight_grad(&g, &x, &y, &mut dw).expect("shapes");
                let (a, b) = (MatRef::rows(&x, 16), MatRef::rows(&w, 24));
                gemm::gemm((40, 24, 16), a, b, 0.0, &mut y[..960]).expect("shapes");
                let (w, y) = (&w[..d.kernel_len()], &mut y[..d.output_len()]);
                depthwise::forward(&d, &x, w, y).expect("shapes");
                depthwise::input_grad(&d, y, w, &mut x).expect("shapes");
                depthwise::weight_grad(&d, &x, y, &mut dw[..w.len()]).expect("shapes");
                pool::max_forward(&p, &x, &mut y[..p.output_len()]).expect("shapes");
                channel::sum(&x, &mut sums).expect("shapes");
                channel::dot(&x, &x, &mut sums).expect("shapes");
            })
        );
    }
}

#[test]
fn floats_times_trits_allocate_nothing_once_warm() {
    use kernels::ternary::float::{self, Form, Packed};
    let g = Conv2d::new([4, 12, 12, 16], [3, 3, 16, 24], [1, 1], Padding::Same).expect("geometry");
    let (x, w, scale) = (vec![1.0_f32; g.input_len()], vec![1_i8; g.kernel_len()], [0.5_f32; 24]);
    let mut y = vec![0.0; g.output_len()];
    for form in Form::ALL {
        let mut packed = Packed::conv2d(form, &g, &w, &scale).expect("trits");
        let count = allocations(|| {
            packed.repack(&w, &scale).expect("trits");
            float::conv2d(&g, &x, &packed, &mut y).expect("shapes");
        });
        assert_eq!(count, 0, "{form:?}");
    }
}

#[test]
fn integer_operations_and_packing_allocate_nothing_once_warm() {
    let kernel = Kernel::default();
    let g = Conv2d::new([4, 12, 12, 15], [3, 3, 15, 24], [1, 1], Padding::Same).expect("geometry");
    let d = Conv2d::depthwise([4, 12, 12, 15], [3, 3, 15, 1], [1, 1], Padding::Same).expect("geometry");
    let (x, w) = (vec![1_u8; g.input_len()], vec![1_i8; g.kernel_len()]);
    let mut trits = Form::ALL.map(|form| {
        let one = Conv2d::new([1, 8, 8, 15], [1, 1, 15, 24], [1, 1], Padding::Same).expect("geometry");
        let g = if form.is_of_rows() { one } else { g };
        (g, Packed::conv2d(form, &g, &w[..g.kernel_len()]).expect("trits"))
    });
    let mut bytes = int8::Packed::conv2d(&g, &w).expect("bytes");
    let flat: Vec<Packed> = Form::ALL
        .into_iter()
        .filter(|&form| form != Form::Winograd)
        .map(|form| Packed::gemm(form, 27, 5, &w[..135]).expect("trits"))
        .collect();
    let mut y = vec![0; g.output_len()];
    let count = allocations(|| {
        for (g, trits) in &mut trits {
            trits.repack(&w[..g.kernel_len()]).expect("trits");
            let (x, y) = (&x[..g.input_len()], &mut y[..g.output_len()]);
            ternary::conv2d(kernel, g, (x, 0), trits, &Accumulators, y).expect("shapes");
        }
        bytes.repack(&w).expect("bytes");
        int8::conv2d(kernel, &g, (&x, 0), &bytes, &Accumulators, &mut y).expect("shapes");
        for flat in &flat {
            ternary::gemm(kernel, &x[..270], flat, &Accumulators, &mut y[..50]).expect("shapes");
        }
        let y = &mut y[..d.output_len()];
        int8::depthwise(kernel, &d, (&x, 0), &w[..d.kernel_len()], &Accumulators, y).expect("shapes");
    });
    assert_eq!(count, 0);
}
