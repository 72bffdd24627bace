"""LiteRT (XNNPACK) on single operations: 8-bit and f32 fully connected layers and convolutions."""

import functools
import importlib.metadata

import worker  # first: it keeps standard output for the protocol

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from kernel_shapes import CONVOLUTIONS, FLOAT, GEMMS, INTEGER, conv_name, copies, gemm_name

random = np.random.default_rng(1)


class Graph:
    """A model of parallel operations of one kind on one input."""

    def __init__(self, operator, version):
        self.buffers, self.tensors, self.operators = [schema.BufferT()], [], []
        self.code = schema.OperatorCodeT()
        self.code.builtinCode = self.code.deprecatedBuiltinCode = operator
        self.code.version = version

    def tensor(self, shape, kind, data=None, scales=None, zero=0):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = b"%d" % len(self.tensors), list(shape), kind, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        if scales is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [float(s) for s in scales]
            tensor.quantization.zeroPoint = [zero] * len(scales)
            tensor.quantization.quantizedDimension = 0
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def add(self, inputs, output, kind, options):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [output]
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.operators.append(operator)

    def interpreter(self, x, outputs):
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, [x], outputs
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], self.buffers, [self.code]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        made = Interpreter(model_content=bytes(builder.Output()), num_threads=worker.threads())
        made.allocate_tensors()
        return made


def sampler(operator, in_shape, out_shape, weight_shape, integer, macs):
    conv = operator == schema.BuiltinOperator.CONV_2D
    graph = Graph(operator, 3 if conv else 5)
    count, cout = copies(macs), weight_shape[0]
    kind = schema.TensorType.INT8 if integer else schema.TensorType.FLOAT32
    quantized = lambda scales, zero: {"scales": scales, "zero": zero} if integer else {}
    x = graph.tensor(in_shape, kind, **quantized([0.05], -128))
    outputs = []
    for _ in range(count):
        w = random.choice(np.array([-1, 0, 0, 1], np.int8), size=weight_shape)
        w = graph.tensor(weight_shape, kind, w if integer else w.astype(np.float32), **quantized([0.02] * cout, 0))
        bias_kind = schema.TensorType.INT32 if integer else kind
        bias = np.zeros(cout, np.int32 if integer else np.float32)
        bias = graph.tensor([cout], bias_kind, bias, **quantized([0.001] * cout, 0))
        y = graph.tensor(out_shape, kind, **quantized([0.1], -128))
        if conv:
            options = schema.Conv2DOptionsT()
            options.padding = schema.Padding.SAME
            options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
            graph.add([x, w, bias], y, schema.BuiltinOptions.Conv2DOptions, options)
        else:
            options = schema.FullyConnectedOptionsT()
            graph.add([x, w, bias], y, schema.BuiltinOptions.FullyConnectedOptions, options)
        outputs.append(y)
    made = graph.interpreter(x, outputs)
    detail = made.get_input_details()[0]
    values = random.integers(-128, 128, in_shape).astype(np.int8) if integer else random.standard_normal(in_shape, np.float32)
    made.set_tensor(detail["index"], values)
    return worker.rate(made.invoke, macs * count / 1e9)


def gemm(m, k, n, integer):
    return sampler(schema.BuiltinOperator.FULLY_CONNECTED, [m, k], [m, n], [n, k], integer, m * k * n)


def conv(batch, side, cin, cout, integer):
    shapes = [batch, side, side, cin], [batch, side, side, cout], [cout, 3, 3, cin]
    macs = batch * side * side * cin * cout * 9
    return sampler(schema.BuiltinOperator.CONV_2D, *shapes, integer, macs)


def works(integer):
    table = {gemm_name(*s): functools.partial(gemm, *s, integer) for s in GEMMS}
    table.update({conv_name(*s): functools.partial(conv, *s, integer) for s in CONVOLUTIONS})
    return table


version = importlib.metadata.version("ai-edge-litert")
worker.serve([
    worker.Peer("LiteRT int8", version, "GMAC/s", works(True), ours=INTEGER),
    worker.Peer("LiteRT f32", version, "GMAC/s", works(False), ours=FLOAT),
])
