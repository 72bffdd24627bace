"""LiteRT (XNNPACK) on whole networks, 8-bit weights and activations, batch 1."""

import functools

import worker  # first: it keeps standard output for the protocol

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from litert import VERSION, Graph, Operator, Options, Type, conv_options

random = np.random.default_rng(1)


class Network(Graph):
    """A chain of 8-bit operations; every activation tensor has its own scale."""

    def __init__(self, shape):
        super().__init__()
        self.at = self.input = self.tensor([1, *shape], Type.INT8, scales=[0.02])

    def add_operator(self, code, inputs, shape, kind, options, scale=0.02):
        self.at = self.tensor(shape, Type.INT8, scales=[scale])
        self.operator(code, inputs, [self.at], kind, options)
        return self.at

    def shape(self, tensor=None):
        return self.tensors[self.at if tensor is None else tensor].shape

    def weights(self, shape, channels, axis=0):
        w = random.integers(-127, 128, shape).astype(np.int8)
        scales = [0.002] * channels
        bias = np.zeros(channels, np.int32)
        return [self.tensor(shape, Type.INT8, w, scales, 0, axis),
                self.tensor([channels], Type.INT32, bias, [s * 0.02 for s in scales], 0)]

    def conv(self, filters, kernel, stride=1, relu=True, source=None):
        source = self.at if source is None else source
        _, h, w, c = self.shape(source)
        options = conv_options(schema.Conv2DOptionsT(), stride)
        options.fusedActivationFunction = 1 if relu else 0
        inputs = [source, *self.weights([filters, *kernel, c], filters)]
        shape = [1, -(-h // stride), -(-w // stride), filters]
        return self.add_operator(Operator.CONV_2D, inputs, shape, Options.Conv2DOptions, options)

    def depthwise(self):
        _, h, w, c = self.shape()
        options = conv_options(schema.DepthwiseConv2DOptionsT())
        options.depthMultiplier = options.fusedActivationFunction = 1
        inputs = [self.at, *self.weights([1, 3, 3, c], c, 3)]
        return self.add_operator(Operator.DEPTHWISE_CONV_2D, inputs, [1, h, w, c], Options.DepthwiseConv2DOptions, options)

    def pool(self, code, size):
        _, h, w, c = self.shape()
        options = schema.Pool2DOptionsT()
        options.padding = schema.Padding.VALID
        options.filterHeight, options.filterWidth = size
        options.strideH, options.strideW = size
        shape = [1, (h - size[0]) // size[0] + 1, (w - size[1]) // size[1] + 1, c]
        return self.add_operator(code, [self.at], shape, Options.Pool2DOptions, options)

    def add(self, other):
        options = schema.AddOptionsT()
        options.fusedActivationFunction = 1
        return self.add_operator(Operator.ADD, [self.at, other], self.shape(), Options.AddOptions, options)

    def classifier(self, classes):
        n = int(np.prod(self.shape()))
        options = schema.ReshapeOptionsT()
        options.newShape = [1, n]
        shape = self.tensor([2], Type.INT32, np.array([1, n], np.int32))
        self.add_operator(Operator.RESHAPE, [self.at, shape], [1, n], Options.ReshapeOptions, options)
        dense = schema.FullyConnectedOptionsT()
        inputs = [self.at, *self.weights([classes, n], classes)]
        self.add_operator(Operator.FULLY_CONNECTED, inputs, [1, classes], Options.FullyConnectedOptions, dense, 0.1)
        return self


def stack(shape, widths, classes):
    net = Network(shape)
    for width in widths:
        net.conv(width, (3, 3))
        net.conv(width, (3, 3))
        net.pool(Operator.MAX_POOL_2D, (2, 2))
    return net.classifier(classes)


def resnet8():
    net = Network([32, 32, 3])
    net.conv(16, (3, 3))
    for filters, stride in (16, 1), (32, 2), (64, 2):
        source = net.at
        net.conv(filters, (3, 3), stride)
        body = net.conv(filters, (3, 3), relu=False)
        shortcut = source if stride == 1 else net.conv(filters, (1, 1), stride, relu=False, source=source)
        net.at = body
        net.add(shortcut)
    net.pool(Operator.AVERAGE_POOL_2D, (8, 8))
    return net.classifier(10)


def ds_cnn():
    net = Network([49, 10, 1])
    net.conv(64, (10, 4), 2)
    for _ in range(4):
        net.depthwise()
        net.conv(64, (1, 1))
    net.pool(Operator.AVERAGE_POOL_2D, (25, 5))
    return net.classifier(12)


NETWORKS = {
    "stq_image_s": functools.partial(stack, [32, 32, 3], [32, 64, 128], 10),
    "stq_audio_s": functools.partial(stack, [49, 10, 1], [32, 64], 12),
    "resnet8": resnet8,
    "ds_cnn": ds_cnn,
}


def sampler(make):
    network = make()
    return network.sampler(network.input, [network.at], 1)


worker.serve([
    worker.Peer("LiteRT int8", VERSION, "inferences/s",
                {name: functools.partial(sampler, make) for name, make in NETWORKS.items()}),
])
