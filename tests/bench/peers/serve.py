"""What a peer in Python shares: it reads lines "WORK SECONDS" and answers each with one line of JSON."""

import json
import os
import statistics
import sys
import time

import numpy as np

CLASSES = 10
EIGHT = [-0.8, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6, 0.8]
# Shapes of kernels, channels last: convolutions [rows, columns, in, out], dense layers [in, out].
LAYERS = {
    "seed": [(3, 3, 1, 32), (3, 3, 32, 64), (1600, 1024), (1024, CLASSES)],
    "mlp": [(784, 512), (512, 512), (512, CLASSES)],
}


def inputs(work):
    """The work's network ("seed" or "mlp"), random images or rows (channels last), labels; None for other works."""
    network, _, batch = {"infer1": "seed_b1", "epoch": "seed_b128"}.get(work, work).partition("_b")
    if network not in LAYERS:
        return None
    random = np.random.default_rng(1)
    shape = (int(batch), 28, 28, 1) if network == "seed" else (int(batch), 784)
    return network, random.random(shape, dtype=np.float32), random.integers(0, CLASSES, int(batch))


def weights(network):
    """A kernel (Glorot's uniform) and a bias (zeros) for each layer."""
    random = np.random.default_rng(2)
    result = []
    for shape in LAYERS[network]:
        area = int(np.prod(shape[:-2]))
        limit = (6 / (area * (shape[-2] + shape[-1]))) ** 0.5
        result.append(random.uniform(-limit, limit, shape).astype(np.float32))
        result.append(np.zeros(shape[-1], np.float32))
    return result


def epoch(step):
    """An epoch of step(images, labels), which returns the loss, over 60,000 images of a byte a pixel."""
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (60_000, 28, 28, 1), dtype=np.uint8)
    labels = random.integers(0, CLASSES, len(images))

    def run():
        order = random.permutation(len(images))
        losses = []
        for first in range(0, len(order), 128):
            rows = order[first:first + 128]
            losses.append(step(images[rows].astype(np.float32) / 255, labels[rows]))
        return np.mean(losses)

    return run


def serve(version, start):
    """start(work) gives a function that does the work once and returns the numbers read; None: no such work here."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints

    def answer(what):
        print(json.dumps(what), file=answers, flush=True)

    answer({"version": version})
    steps = {}
    for line in sys.stdin:
        work, seconds = line.split()
        if work not in steps:
            steps[work] = start(work)
            if steps[work]:
                for _ in range(1 if work == "epoch" else 3):
                    read = np.asarray(steps[work]())
                assert np.all(np.isfinite(read)), (work, read)
        if not steps[work]:
            answer({})
            continue
        times = []
        while len(times) < 2 or sum(times) < float(seconds):
            begin = time.perf_counter()
            steps[work]()
            times.append(time.perf_counter() - begin)
        answer({"min_ms": 1e3 * min(times), "median_ms": 1e3 * statistics.median(times), "n": len(times)})
