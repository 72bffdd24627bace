"""Runs an exported ONNX file on raw inputs and compares accumulators: check_onnx.py MODEL INPUTS EXPECTED CLASSES"""
import sys
import numpy as np
import onnxruntime as ort

model, inputs, expected, classes = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
options = ort.SessionOptions()
# Optimised graphs may quantise activations on their own.
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
options.intra_op_num_threads = 1
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
shape = session.get_inputs()[0].shape[1:]
x = np.fromfile(inputs, np.uint8).reshape(-1, *shape)
want = np.fromfile(expected, "<i4").reshape(-1, classes).astype(np.int64)
got = np.concatenate([session.run(["accumulators"], {"input": x[i : i + 1]})[0] for i in range(len(x))])
largest = int(np.abs(got.astype(np.int64) - want).max())
print(f"onnxruntime {ort.__version__}: {len(x)} inputs, largest difference {largest}, {'ok' if largest == 0 else 'WRONG'}")
sys.exit(largest != 0)
