"""QKeras and Keras on the CNN of the group `train`: stochastic ternary kernels with 8-bit activations, and floats."""

import os

import worker  # first: it keeps standard output for the protocol

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import qkeras
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(worker.threads())
tf.config.threading.set_inter_op_parallelism_threads(worker.threads())
layers, backend = tf.keras.layers, tf.keras.backend
BATCH, CLASSES = 128, 10
KERNEL = "stochastic_ternary(alpha='auto')"


def network(quantized):
    def convolution(channels):
        if quantized:
            return qkeras.QConv2D(channels, 3, padding="same", use_bias=False, kernel_quantizer=KERNEL)
        return layers.Conv2D(channels, 3, padding="same", use_bias=False)

    x = image = layers.Input((32, 32, 3))
    for channels in (32, 64, 128):
        for _ in range(2):
            x = layers.BatchNormalization()(convolution(channels)(x))
            x = (qkeras.QActivation("quantized_relu(8, 2)") if quantized else layers.ReLU())(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    dense = qkeras.QDense(CLASSES, kernel_quantizer=KERNEL) if quantized else layers.Dense(CLASSES)
    return tf.keras.Model(image, dense(x))


def step(quantized, sampled=False, penalised=False):
    backend.clear_session()
    if sampled:
        # Without this QKeras never samples kernels under TensorFlow 2, not even in `fit`.
        backend.set_learning_phase(1)
    net = network(quantized)
    optimizer = tf.keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=5e-4)
    entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    random = np.random.default_rng(1)
    x = tf.constant(random.random((BATCH, 32, 32, 3), dtype=np.float32))
    y = tf.constant(random.integers(0, CLASSES, BATCH))

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            if penalised:
                v = tf.random.normal((BATCH, CLASSES))
                v = v / tf.norm(v, axis=1, keepdims=True)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    logits = net(x, training=True)
                    projected = tf.reduce_sum(logits * v)
                gradient = inner.gradient(projected, x)
                penalty = 0.5 * CLASSES * tf.reduce_sum(gradient**2) / BATCH
                loss = entropy(y, logits) + 0.01 * penalty
            else:
                loss = entropy(y, net(x, training=True))
        variables = net.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return loss

    return worker.milliseconds(lambda: train().numpy())


version = f"{qkeras.__version__}, TensorFlow {tf.__version__}"
ours = ["STQ and 8-bit activations"]
worker.serve([
    worker.Peer("QKeras, kernels as in fit", version, "ms", {"training step": lambda: step(True)}, ours),
    worker.Peer("QKeras, kernels sampled", version, "ms", {"training step": lambda: step(True, sampled=True)}, ours),
    worker.Peer(
        "Keras f32",
        tf.__version__,
        "ms",
        {
            "training step": lambda: step(False),
            "training step with input JR": lambda: step(False, penalised=True),
        },
        ["float"],
    ),
])
