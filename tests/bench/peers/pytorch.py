"""The standard works in PyTorch: eager, with channels last, or compiled."""

import os
import sys

import torch
from torch import nn

from serve import EIGHT, epoch, inputs, serve, weights

mode = sys.argv[1]
torch.set_num_threads(len(os.sched_getaffinity(0)))


def network(name):
    if name == "seed":
        net = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1600, 1024), nn.ReLU(), nn.Linear(1024, 10))
    else:
        net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    with torch.no_grad():
        for p, w in zip(net.parameters(), weights(name)):
            w = torch.from_numpy(w)
            p.copy_(w.permute(3, 2, 0, 1) if w.dim() == 4 else w.T if w.dim() == 2 else w)
    return net


def start(work):
    if work == "chain2000":
        return chain if mode == "eager" else None
    if inputs(work) is None:
        return None
    name, images, labels = inputs(work)
    if mode == "channels_last" and name != "seed":
        return None
    net, x, y = network(name), torch.from_numpy(images), torch.from_numpy(labels)
    if mode == "channels_last":
        net = net.to(memory_format=torch.channels_last)

    def laid_out(x):
        if name != "seed":
            return x
        layout = torch.channels_last if mode == "channels_last" else torch.contiguous_format
        return x.permute(0, 3, 1, 2).contiguous(memory_format=layout)

    x = laid_out(x)

    if work == "infer1":
        forward = torch.compile(net) if mode == "compiled" else net

        def infer():
            with torch.inference_mode():
                return torch.softmax(forward(x), 1).numpy()

        return infer

    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def loss_of(x, y):
        return nn.functional.cross_entropy(net(x), y)

    if mode == "compiled":
        loss_of = torch.compile(loss_of)

    def step(x, y):
        adam.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        adam.step()
        return loss.item()

    if work == "epoch":
        return epoch(lambda x, y: step(laid_out(torch.from_numpy(x)), torch.from_numpy(y)))
    return lambda: step(x, y)


def chain():
    x = torch.tensor(EIGHT, requires_grad=True)
    y = x
    for _ in range(1000):
        y = torch.tanh(y) * 1.01
    y.sum().backward()
    return x.grad.numpy()


serve(torch.__version__, start)
