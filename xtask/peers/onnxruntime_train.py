"""ONNX Runtime on the CNN of the group `train`: inference with u8 activations and i8 weights."""

import worker  # first: it keeps standard output for the protocol

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(1)


def inference(n):
    constants, nodes = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(value, name))

    constant("s", np.float32(0.05)), constant("z", np.uint8(0))
    constant("ws", np.float32(0.02)), constant("wz", np.int8(0))
    current, channels = "x", 3
    for i, (out, pool) in enumerate(((32, 0), (32, 1), (64, 0), (64, 1), (128, 0), (128, 1))):
        constant(f"w{i}", random.choice(np.array([-1, 0, 0, 1], np.int8), size=(out, channels, 3, 3)))
        inputs = [current, "s", "z", f"w{i}", "ws", "wz", "s", "z"]
        nodes.append(helper.make_node("QLinearConv", inputs, [f"c{i}"], kernel_shape=[3, 3], pads=[1] * 4))
        current, channels = f"c{i}", out
        if pool:
            nodes.append(helper.make_node("MaxPool", [current], [f"p{i}"], kernel_shape=[2, 2], strides=[2, 2]))
            current = f"p{i}"
    constant("w", random.choice(np.array([-1, 0, 0, 1], np.int8), size=(2048, 10)))
    nodes.append(helper.make_node("Flatten", [current], ["flat"]))
    nodes.append(helper.make_node("QLinearMatMul", ["flat", "s", "z", "w", "ws", "wz", "s", "z"], ["y"]))
    x = random.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
    graph = helper.make_graph(
        nodes,
        "the network",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [n, 10])],
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
    return worker.milliseconds(lambda: session.run(None, {"x": x}))


works = {f"inference of {n}": lambda n=n: inference(n) for n in (1, 64)}
worker.serve([worker.Peer("ONNX Runtime int8", onnxruntime.__version__, "ms", works, ours=["8-bit activations"])])
