"""What the scripts of LiteRT share: a model put together tensor by tensor, and its interpreter."""

import importlib.metadata

import worker  # first: it keeps standard output for the protocol

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

VERSION = importlib.metadata.version("ai-edge-litert")
Operator, Options, Type = schema.BuiltinOperator, schema.BuiltinOptions, schema.TensorType
# Of each operator, the version that has all that is used here.
VERSIONS = {Operator.CONV_2D: 3, Operator.DEPTHWISE_CONV_2D: 3, Operator.FULLY_CONNECTED: 5, Operator.MAX_POOL_2D: 2,
            Operator.AVERAGE_POOL_2D: 2, Operator.ADD: 2, Operator.RESHAPE: 1}


class Graph:
    """Tensors and operators of one model."""

    def __init__(self):
        self.buffers, self.tensors, self.operators, self.codes = [schema.BufferT()], [], [], []

    def tensor(self, shape, kind, data=None, scales=None, zero=-128, axis=0):
        """A tensor, constant if it has `data`, quantized along `axis` if it has `scales`; its number."""
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
            tensor.quantization.quantizedDimension = axis
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(self, code, inputs, outputs, kind, options):
        """Adds an operator."""
        if code not in self.codes:
            self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self.codes.index(code), inputs, outputs
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        self.operators.append(operator)

    def sampler(self, x, outputs, amount):
        """A sampler of `amount` a second, on random values for the tensor `x`."""
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, [x], outputs
        model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], self.buffers, []
        for code in self.codes:
            entry = schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            entry.version = VERSIONS[code]
            model.operatorCodes.append(entry)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        made = Interpreter(model_content=bytes(builder.Output()), num_threads=worker.threads())
        made.allocate_tensors()
        detail, random = made.get_input_details()[0], np.random.default_rng(1)
        if detail["dtype"] == np.int8:
            values = random.integers(-128, 128, detail["shape"]).astype(np.int8)
        else:
            values = random.standard_normal(detail["shape"], np.float32)
        made.set_tensor(detail["index"], values)
        return worker.rate(made.invoke, amount)


def conv_options(options, stride=1):
    """SAME padding and one stride for both axes, for convolutions of either kind."""
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, stride, stride
    options.dilationHFactor = options.dilationWFactor = 1
    return options
