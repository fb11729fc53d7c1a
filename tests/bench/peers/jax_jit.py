"""The standard works in JAX: one jitted function a step, which gives its parameters away."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax import lax  # noqa: E402

from serve import epoch, inputs, serve, weights  # noqa: E402


def logits_of(x, parameters):
    pairs = list(zip(parameters[::2], parameters[1::2]))
    for i, (w, b) in enumerate(pairs):
        if w.ndim == 4:
            y = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = lax.reduce_window(jax.nn.relu(y + b), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        else:
            x = x.reshape(x.shape[0], -1) @ w + b
            x = x if i == len(pairs) - 1 else jax.nn.relu(x)
    return x


def loss_of(parameters, x, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits_of(x, parameters)), y[:, None], 1).mean()


def train(state, x, y):
    parameters, m, v, t = state
    loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
    t = t + 1
    rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    m = [0.9 * a + 0.1 * g for a, g in zip(m, gradients)]
    v = [0.999 * a + 0.001 * g * g for a, g in zip(v, gradients)]
    parameters = [p - rate * a / (jnp.sqrt(b) + 1e-8) for p, a, b in zip(parameters, m, v)]
    return (parameters, m, v, t), loss


def start(work):
    # Not the chains: what is built afresh would be compiled afresh.
    if inputs(work) is None:
        return None
    name, images, labels = inputs(work)
    x, y = jnp.asarray(images), jnp.asarray(labels)
    parameters = [jnp.asarray(w) for w in weights(name)]

    if work == "infer1":
        infer = jax.jit(lambda p, x: jax.nn.softmax(logits_of(x, p)))
        return lambda: np.asarray(infer(parameters, x))

    jitted = jax.jit(train, donate_argnums=0)
    zeros = [[jnp.zeros_like(p) for p in parameters] for _ in range(2)]
    state = (parameters, *zeros, jnp.float32(0))

    def step(x, y):
        nonlocal state
        state, loss = jitted(state, x, y)
        return float(loss)

    return epoch(step) if work == "epoch" else lambda: step(x, y)


serve(jax.__version__, start)
