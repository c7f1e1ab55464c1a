"""A small network in NumPy: hidden layers of rectified units, trained with Adam; written as ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

Weights = list[np.ndarray]
End = Literal["Sigmoid", "Softmax"]


def forward(weights: Weights, x: np.ndarray) -> list[np.ndarray]:
    """What each layer gives; the last one before the logistic curve or the softmax."""
    outputs = [x]
    for at in range(0, len(weights), 2):
        found = outputs[-1] @ weights[at] + weights[at + 1]
        outputs.append(found if at == len(weights) - 2 else np.maximum(found, 0))
    return outputs


def probabilities(weights: Weights, x: np.ndarray, end: End) -> np.ndarray:
    """What the network says, (n, outputs)."""
    last = forward(weights, x)[-1]
    if end == "Sigmoid":
        return np.asarray(1 / (1 + np.exp(-last)))
    powers = np.exp(last - last.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def trained(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, layers: Sequence[int], end: End, epochs: int
) -> Weights:
    """Adam on the cross-entropy.

    Parameters
    ----------
    x
        Inputs, (n, k).
    y
        What it should say, (n, outputs).
    weight
        Of each example, (n,).
    layers
        Sizes of the hidden layers.
    end
        The curve after the last layer.
    epochs
        How often all examples are seen.
    """
    rng = np.random.default_rng(1)
    weights: Weights = []
    for a, b in pairwise([x.shape[1], *layers, y.shape[1]]):
        weights += [rng.normal(0, np.sqrt(2 / a), (a, b)), np.zeros(b)]
    first, second = [[np.zeros_like(w) for w in weights] for _ in range(2)]
    step = 0
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for at in range(0, len(order), 128):
            some = order[at : at + 128]
            step += 1
            for k, slope in enumerate(_slopes(weights, x[some], y[some], weight[some], end)):
                first[k] = 0.9 * first[k] + 0.1 * slope
                second[k] = 0.999 * second[k] + 0.001 * slope**2
                rise = first[k] / (1 - 0.9**step) / (np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8)
                weights[k] = weights[k] - 2e-3 * rise
    return [w.astype(np.float32) for w in weights]


def _slopes(weights: Weights, x: np.ndarray, y: np.ndarray, weight: np.ndarray, end: End) -> Weights:
    outputs = forward(weights, x)
    back = (probabilities(weights, x, end) - y) * (weight / len(y))[:, None]
    slopes: Weights = []
    for at in range(len(weights) - 2, -1, -2):
        before = outputs[at // 2]
        slopes = [before.T @ back + 1e-4 * weights[at], back.sum(0), *slopes]
        if at:
            back = (back @ weights[at].T) * (before > 0)
    return slopes


def as_onnx(weights: Weights, name: str, names: tuple[str, str], end: End) -> bytes:
    """The network as an ONNX file, the last curve included.

    Parameters
    ----------
    weights
        As trained.
    name
        Of the graph.
    names
        Of the input and of the output.
    end
        The curve after the last layer.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes, tensors, now = [], [], names[0]
    for at in range(0, len(weights), 2):
        inner = f"w{at}", f"b{at}", f"layer{at}"
        tensors += [numpy_helper.from_array(weights[at + i], inner[i]) for i in (0, 1)]
        nodes.append(helper.make_node("Gemm", [now, inner[0], inner[1]], [inner[2]]))
        kind, now = (end, names[1]) if at == len(weights) - 2 else ("Relu", f"out{at}")
        nodes.append(helper.make_node(kind, [inner[2]], [now]))
    shape: Callable[..., Any] = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [shape(names[0], TensorProto.FLOAT, ["n", len(weights[0])])],
        [shape(names[1], TensorProto.FLOAT, ["n", len(weights[-1])])],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(made.SerializeToString())
