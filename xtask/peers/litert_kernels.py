"""LiteRT (XNNPACK) on single operations: 8-bit and f32 fully connected layers and convolutions."""

import functools

import worker  # first: it keeps standard output for the protocol

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kernel_shapes import CONVOLUTIONS, FLOAT, GEMMS, INTEGER, conv_name, copies, gemm_name
from litert import VERSION, Graph, Operator, Options, Type, conv_options

random = np.random.default_rng(1)


def sampler(operator, in_shape, out_shape, weight_shape, integer, macs):
    """Parallel operations of one kind on one input."""
    graph = Graph()
    count, cout = copies(macs), weight_shape[0]
    kind = Type.INT8 if integer else Type.FLOAT32
    quantized = lambda scales, zero: {"scales": scales, "zero": zero} if integer else {}
    x = graph.tensor(in_shape, kind, **quantized([0.05], -128))
    outputs = []
    for _ in range(count):
        w = random.choice(np.array([-1, 0, 0, 1], np.int8), size=weight_shape)
        w = graph.tensor(weight_shape, kind, w if integer else w.astype(np.float32), **quantized([0.02] * cout, 0))
        bias_kind = Type.INT32 if integer else kind
        bias = np.zeros(cout, np.int32 if integer else np.float32)
        bias = graph.tensor([cout], bias_kind, bias, **quantized([0.001] * cout, 0))
        y = graph.tensor(out_shape, kind, **quantized([0.1], -128))
        if operator == Operator.CONV_2D:
            kinds, options = Options.Conv2DOptions, conv_options(schema.Conv2DOptionsT())
        else:
            kinds, options = Options.FullyConnectedOptions, schema.FullyConnectedOptionsT()
        graph.operator(operator, [x, w, bias], [y], kinds, options)
        outputs.append(y)
    return graph.sampler(x, outputs, macs * count / 1e9)


def gemm(m, k, n, integer):
    return sampler(Operator.FULLY_CONNECTED, [m, k], [m, n], [n, k], integer, m * k * n)


def conv(batch, side, cin, cout, integer):
    shapes = [batch, side, side, cin], [batch, side, side, cout], [cout, 3, 3, cin]
    macs = batch * side * side * cin * cout * 9
    return sampler(Operator.CONV_2D, *shapes, integer, macs)


def works(integer):
    table = {gemm_name(*s): functools.partial(gemm, *s, integer) for s in GEMMS}
    table.update({conv_name(*s): functools.partial(conv, *s, integer) for s in CONVOLUTIONS})
    return table


worker.serve([
    worker.Peer("LiteRT int8", VERSION, "GMAC/s", works(True), ours=INTEGER),
    worker.Peer("LiteRT f32", VERSION, "GMAC/s", works(False), ours=FLOAT),
])
