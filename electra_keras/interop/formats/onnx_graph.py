"""The detector as an ONNX graph, written node by node from the weights: the reference route among the inference formats.

Converters follow a backend's trace, and each fails on some combination of backend and dynamic shape (benchmarks/formats.py has the
table). The discriminator's forward pass is small enough to write down, which needs no backend at all, gives dynamic batch and
length always, and the same file wherever it is made.

Inputs, all int32 (batch, length): token_ids, segment_ids (0 or 1), padding_mask (1 = real).
Output: probabilities, float32 (batch, length), P(replaced) of every token; meaningless at padding.
"""

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from electra_keras.arrays import Arrays
from electra_keras.interop.formats.names import INPUTS, OUTPUT
from electra_keras.interop.layout import ATTENTION_PARTS, EncoderSize
from electra_keras.modeling.constants import LAYER_NORM_EPSILON, MASKED_SCORE

# The first with LayerNormalization as one operator. ONNX files carry both numbers, and an older runtime refuses newer ones.
OPSET, IR_VERSION = 17, 8


def detector_graph(size: EncoderSize, weights: Arrays) -> onnx.ModelProto:
    """Writes the discriminator's forward pass, with a sigmoid behind it.

    Args:
        size: of the discriminator.
        weights: float32, by the names of `EncoderSize.weight_shapes("detection")`.

    Returns:
        A float32 model that onnx' own checker accepts. Sequences over size.max_positions fail in the runtime.
    """
    graph = _Graph(weights)
    stream = _embed(graph, size)
    bias = _padding_bias(graph)
    for index in range(size.num_layers):
        stream = _block(graph, f"layer_{index}", stream, bias, size)
    hidden = graph.gelu("detection_head/gelu", graph.dense("detection_head/dense", stream))
    logits = graph.dense("detection_head/prediction", hidden)
    logits = graph.add("Squeeze", "detection_head/logits", logits, graph.constant("last_axis", np.array([-1], np.int64)))
    graph.add("Sigmoid", OUTPUT, logits)
    return graph.finish()


class _Graph:
    """Nodes and constants in the order in which they are made; every method returns the name of its result."""

    def __init__(self, weights: Arrays):
        self.weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, name: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [name] if outputs == 1 else [f"{name}/{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, name=name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        self._constants.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def scalar(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, np.float32))

    def weight(self, name: str) -> str:
        return self.constant(name, np.asarray(self.weights[name], np.float32))

    def dense(self, name: str, inputs: str) -> str:
        return self.affine(name, inputs, self.weight(f"{name}/kernel"), self.weight(f"{name}/bias"))

    def affine(self, name: str, inputs: str, kernel: str, bias: str) -> str:
        return self.add("Add", name, self.add("MatMul", f"{name}/product", inputs, kernel), bias)

    def norm(self, name: str, inputs: str) -> str:
        scale, shift = self.weight(f"{name}/gamma"), self.weight(f"{name}/beta")
        return self.add("LayerNormalization", name, inputs, scale, shift, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def gelu(self, name: str, inputs: str) -> str:
        # Operator by operator: runtimes fuse this pattern, and Gelu itself came with opset 20.
        ratio = self.add("Div", f"{name}/ratio", inputs, self.scalar("square_root_of_2", math.sqrt(2.0)))
        tail = self.add("Add", f"{name}/tail", self.add("Erf", f"{name}/erf", ratio), self.scalar("one", 1.0))
        product = self.add("Mul", f"{name}/product", inputs, tail)
        return self.add("Mul", name, product, self.scalar("half", 0.5))

    def finish(self) -> onnx.ModelProto:
        shape = ["batch", "length"]
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in INPUTS]
        output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self._nodes, "electra_detector", inputs, [output], list(self._constants.values()))
        model = helper.make_model(
            graph, producer_name="electra_keras", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _embed(graph: _Graph, size: EncoderSize) -> str:
    """Returns the normalised embeddings at the hidden size, (batch, length, hidden_dim)."""
    words = graph.add("Gather", "embeddings/word", graph.weight("embeddings/word/embeddings"), "token_ids")
    segments = graph.add("Gather", "embeddings/segment", graph.weight("embeddings/segment/embeddings"), "segment_ids")
    length = graph.add("Shape", "length", "token_ids", start=1, end=2)
    starts, axes = graph.constant("starts", np.array([0], np.int64)), graph.constant("first_axis", np.array([0], np.int64))
    positions = graph.add("Slice", "embeddings/position", graph.weight("embeddings/position/embeddings"), starts, length, axes)
    total = graph.add("Add", "embeddings/word_and_position", words, positions)
    total = graph.add("Add", "embeddings/total", total, segments)
    stream = graph.norm("embeddings/norm", total)
    return stream if size.embedding_dim == size.hidden_dim else graph.dense("embeddings_project", stream)


def _padding_bias(graph: _Graph) -> str:
    """Returns what is added to the scores, (batch, 1, 1, length): 0 at real tokens."""
    mask = graph.add("Cast", "padding/mask", "padding_mask", to=TensorProto.FLOAT)
    padding = graph.add("Sub", "padding/inverse", graph.scalar("one", 1.0), mask)
    bias = graph.add("Mul", "padding/scores", padding, graph.scalar("masked_score", MASKED_SCORE))
    return graph.add("Unsqueeze", "padding/bias", bias, graph.constant("middle_axes", np.array([1, 2], np.int64)))


def _block(graph: _Graph, name: str, stream: str, bias: str, size: EncoderSize) -> str:
    """Returns the next layer's tokens, (batch, length, hidden_dim)."""
    mixed = graph.dense(f"{name}/attention/output", _attend(graph, f"{name}/attention", stream, bias, size))
    tokens = graph.norm(f"{name}/attention_norm", graph.add("Add", f"{name}/attention_residual", stream, mixed))
    wide = graph.gelu(f"{name}/gelu", graph.dense(f"{name}/intermediate", tokens))
    narrow = graph.dense(f"{name}/output", wide)
    return graph.norm(f"{name}/output_norm", graph.add("Add", f"{name}/output_residual", tokens, narrow))


def _attend(graph: _Graph, name: str, stream: str, bias: str, size: EncoderSize) -> str:
    """Returns the values of all heads, mixed, (batch, length, hidden_dim)."""
    head_dim = size.hidden_dim // size.num_heads
    # One product in place of three, as in the run's own weights.
    kernel = graph.constant(f"{name}/qkv/kernel", _fused(graph, name, "kernel"))
    joint = graph.affine(f"{name}/qkv", stream, kernel, graph.constant(f"{name}/qkv/bias", _fused(graph, name, "bias")))
    parts = graph.add("Split", f"{name}/parts", joint, outputs=3, axis=-1)
    # In ONNX's Reshape, 0 keeps a dimension as it is.
    split_heads = graph.constant("split_heads", np.array([0, 0, size.num_heads, head_dim], np.int64))
    heads = {}
    for index, part in enumerate(ATTENTION_PARTS):
        rows = graph.add("Reshape", f"{name}/{part}/heads", f"{parts}/{index}", split_heads)
        # The key comes out transposed: (batch, heads, head_dim, length).
        heads[part] = graph.add("Transpose", f"{name}/{part}", rows, perm=[0, 2, 3, 1] if part == "key" else [0, 2, 1, 3])
    query = graph.add("Mul", f"{name}/scaled_query", heads["query"], graph.scalar("attention_scale", 1.0 / math.sqrt(head_dim)))
    scores = graph.add("Add", f"{name}/scores", graph.add("MatMul", f"{name}/products", query, heads["key"]), bias)
    mixed = graph.add("MatMul", f"{name}/mixed", graph.add("Softmax", f"{name}/weights", scores, axis=-1), heads["value"])
    rows = graph.add("Transpose", f"{name}/mixed_rows", mixed, perm=[0, 2, 1, 3])
    return graph.add("Reshape", f"{name}/joined", rows, graph.constant("join_heads", np.array([0, 0, size.hidden_dim], np.int64)))


def _fused(graph: _Graph, name: str, parameter: str) -> np.ndarray:
    return np.concatenate([graph.weights[f"{name}/{part}/{parameter}"] for part in ATTENTION_PARTS], axis=-1)
