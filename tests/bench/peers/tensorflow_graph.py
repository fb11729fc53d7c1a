"""The standard works in TensorFlow: graph functions, with the fused kernel for Adam."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
import tensorflow as tf  # noqa: E402

from serve import EIGHT, epoch, inputs, serve, weights  # noqa: E402

threads = len(os.sched_getaffinity(0))
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)


def logits_of(x, variables):
    pairs = list(zip(variables[::2], variables[1::2]))
    for i, (w, b) in enumerate(pairs):
        if len(w.shape) == 4:
            x = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, 1, "VALID"), b))
            x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        else:
            x = tf.nn.bias_add(tf.matmul(tf.reshape(x, [x.shape[0], -1]), w), b)
            x = x if i == len(pairs) - 1 else tf.nn.relu(x)
    return x


def start(work):
    if work == "chain2000":
        return chain
    if inputs(work) is None:
        return None
    name, images, labels = inputs(work)
    x, y = tf.constant(images), tf.constant(labels)
    variables = [tf.Variable(w) for w in weights(name)]

    if work == "infer1":
        infer = tf.function(lambda x: tf.nn.softmax(logits_of(x, variables)))
        return lambda: infer(x).numpy()

    moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in variables]
    powers = [tf.Variable(1.0), tf.Variable(1.0)]

    @tf.function
    def train(x, y):
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits_of(x, variables))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, variables)
        powers[0].assign(powers[0] * 0.9)
        powers[1].assign(powers[1] * 0.999)
        for v, (m, s), g in zip(variables, moments, gradients):
            tf.raw_ops.ResourceApplyAdam(
                var=v.handle, m=m.handle, v=s.handle, beta1_power=powers[0], beta2_power=powers[1], lr=1e-3, beta1=0.9,
                beta2=0.999, epsilon=1e-8, grad=g)
        return loss

    if work == "epoch":
        return epoch(lambda x, y: train(tf.constant(x), tf.constant(y)).numpy())
    return lambda: train(x, y).numpy()


def chain():
    x = tf.constant(EIGHT)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for _ in range(1000):
            y = tf.tanh(y) * 1.01
        total = tf.reduce_sum(y)
    return tape.gradient(total, x).numpy()


serve(tf.__version__, start)
