"""ONNX Runtime on single operations: 8-bit and f32 matrix products and convolutions."""

import functools

import worker  # first: it keeps standard output for the protocol

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from kernel_shapes import CONVOLUTIONS, FLOAT, GEMMS, INTEGER, conv_name, copies, gemm_name

random = np.random.default_rng(1)
NUMPY = {"tensor(int32)": np.int32, "tensor(float)": np.float32, "tensor(uint8)": np.uint8}


def trits(*shape):
    return random.choice(np.array([-1, 0, 0, 1], np.int8), size=shape)


def sampler(nodes, x, out_shape, out_type, constants, macs):
    """A sampler of `len(nodes)` parallel nodes that read `x` and write `y0`, `y1`, … in place."""
    in_type = TensorProto.UINT8 if x.dtype == np.uint8 else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "one operation",
        [helper.make_tensor_value_info("x", in_type, x.shape)],
        [helper.make_tensor_value_info(f"y{i}", out_type, out_shape) for i in range(len(nodes))],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = worker.threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its threads must not spin while others are measured.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    kept = []
    for output in session.get_outputs():
        y = np.zeros(output.shape, NUMPY[output.type])
        kept.append(y)
        binding.bind_output(output.name, "cpu", 0, y.dtype, y.shape, y.ctypes.data)

    def call():
        session.run_with_iobinding(binding)
        return kept

    return worker.rate(call, macs * len(nodes) / 1e9)


def gemm(m, k, n, integer):
    count = copies(m * k * n)
    dtype = np.int8 if integer else np.float32
    constants = [numpy_helper.from_array(trits(k, n).astype(dtype), f"w{i}") for i in range(count)]
    if integer:
        constants += [numpy_helper.from_array(np.uint8(0), "xz"), numpy_helper.from_array(np.int8(0), "wz")]
        nodes = [helper.make_node("MatMulInteger", ["x", f"w{i}", "xz", "wz"], [f"y{i}"]) for i in range(count)]
        x = random.integers(0, 256, (m, k), dtype=np.uint8)
        return sampler(nodes, x, [m, n], TensorProto.INT32, constants, m * k * n)
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(count)]
    return sampler(nodes, random.standard_normal((m, k), np.float32), [m, n], TensorProto.FLOAT, constants, m * k * n)


def conv(batch, side, cin, cout, integer):
    macs = batch * side * side * cin * cout * 9
    count = copies(macs)
    weights = [trits(cout, cin, 3, 3) for _ in range(count)]
    how = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    shapes = [batch, cin, side, side], [batch, cout, side, side]
    if integer:
        scalars = {
            "xs": np.float32(0.05), "xz": np.uint8(0), "ws": np.full(cout, 0.02, np.float32),
            "wz": np.zeros(cout, np.int8), "ys": np.float32(0.1), "yz": np.uint8(0),
        }
        constants = [numpy_helper.from_array(value, name) for name, value in scalars.items()]
        constants += [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
        inputs = lambda i: ["x", "xs", "xz", f"w{i}", "ws", "wz", "ys", "yz"]
        nodes = [helper.make_node("QLinearConv", inputs(i), [f"y{i}"], **how) for i in range(count)]
        x = random.integers(0, 256, shapes[0], dtype=np.uint8)
        return sampler(nodes, x, shapes[1], TensorProto.UINT8, constants, macs)
    constants = [numpy_helper.from_array(w.astype(np.float32), f"w{i}") for i, w in enumerate(weights)]
    nodes = [helper.make_node("Conv", ["x", f"w{i}"], [f"y{i}"], **how) for i in range(count)]
    x = random.standard_normal(shapes[0], np.float32)
    return sampler(nodes, x, shapes[1], TensorProto.FLOAT, constants, macs)


def works(integer):
    table = {gemm_name(*s): functools.partial(gemm, *s, integer) for s in GEMMS}
    table.update({conv_name(*s): functools.partial(conv, *s, integer) for s in CONVOLUTIONS})
    return table


version = onnxruntime.__version__
worker.serve([
    worker.Peer("ONNX Runtime int8", version, "GMAC/s", works(True), ours=INTEGER),
    worker.Peer("ONNX Runtime f32", version, "GMAC/s", works(False), ours=FLOAT),
])
