"""A batch's losses and gradients on PyTorch: layer by layer, or recorded once for every shape of a batch and then replayed.

Layer by layer, the Python of the layers and the bookkeeping of gradients are a third of a small model's step: with hardly any arithmetic in
it (4 layers, one example of 16 tokens, one core) it took 70 ms, and 33 replayed. A recording holds PyTorch's operations alone, those of
the backward pass included, in the order they ran in; so its numbers are the same to the last bit.
"""

import operator
from collections.abc import Mapping
from typing import NamedTuple

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from electra_keras.objectives.protocol import Batch


class Gradients(NamedTuple):
    """What one (micro-)batch gives.

    Attributes:
        values: one gradient of the scaled loss for every trainable weight, None where it has no part in the loss.
        loss: float32 scalar, not scaled.
        sums: quantity -> float32 scalar.
    """

    values: list[torch.Tensor | None]
    loss: torch.Tensor
    sums: dict[str, torch.Tensor]


class EagerGradients:
    """Computes the gradients of a pretrainer's loss layer by layer.

    Args:
        model: the ElectraPretrainer. Its trainable weights must stay the same ones, as Keras asks between two calls of `compile`.

    Attributes:
        trained: the trainable weights, in the order of the gradients.
    """

    def __init__(self, model):
        self._model = model
        self.trained = model.trainable_variables

    def __call__(self, batch: Batch, counts: Mapping[str, torch.Tensor], scale: torch.Tensor) -> Gradients:
        """Returns the gradients, and advances the seeds of dropout.

        Args:
            batch: all of an update's examples, or a part of them.
            counts: the whole update's token counts.
            scale: float32 scalar, the loss' factor before the gradients are taken.
        """
        return self._at([variable.value for variable in self.trained], batch, counts, scale)

    def _at(self, weights, batch, counts, scale):
        loss, measurement = self._model.measure(batch, counts, training=True)
        values = torch.autograd.grad(loss * scale, weights, allow_unused=True)
        return Gradients([*values], loss.detach(), {name: value.detach() for name, value in measurement.sums.items()})


class RecordedGradients(EagerGradients):
    """Computes them by recordings, which it makes as shapes come.

    A recording is made in one pass without arithmetic, at a millisecond or so an operation: 2 seconds for 4 layers, 5 for 12. A layer,
    objective or sampler that lets a tensor's numbers decide what is computed cannot be recorded; for such there is
    `compile(run_eagerly=True)`.
    """

    def __init__(self, model):
        super().__init__(model)
        self._others = model.non_trainable_variables
        self._recordings: dict[tuple, torch.fx.GraphModule] = {}

    def __call__(self, batch: Batch, counts: Mapping[str, torch.Tensor], scale: torch.Tensor) -> Gradients:
        """As by layers; the batch brings its sample_uniforms."""
        values = [[variable.value for variable in group] for group in (self.trained, self._others)]
        arguments = (*values, batch, counts, scale)
        key = (self._model.phase.name, *((leaf.shape, leaf.dtype) for leaf in batch))
        if key not in self._recordings:
            self._recordings[key] = self._record(arguments)
        # Less work for every operation than under no_grad.
        with torch.inference_mode():
            gradients, changed = self._recordings[key](*arguments)
        for index, value in changed.items():
            self._others[index].assign(value)
        return gradients

    def _record(self, arguments: tuple) -> torch.fx.GraphModule:
        # Tensors without numbers: with them, a recording would hold all intermediate results at once.
        record = make_fx(lambda *parts: self._stateless(*parts), tracing_mode="fake")
        try:
            with torch.enable_grad():
                return slimmed(record(*arguments))
        except RuntimeError as error:
            error.add_note(
                "The training step was being recorded. If a layer, an objective or a sampler decides by a tensor's numbers what to "
                "compute, give compile() run_eagerly=True."
            )
            raise

    def _stateless(self, trained, others, batch, counts, scale):
        """Returns the gradients, and index -> value of the other variables that change: the seeds."""
        weights = [value.detach().requires_grad_() for value in trained]
        mapping = [*zip(self.trained, weights, strict=True), *zip(self._others, others, strict=True)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            gradients = self._at(weights, batch, counts, scale)
        after = [scope.get_current_value(variable) for variable in self._others]
        return gradients, {index: value for index, value in enumerate(after) if value is not others[index]}


def slimmed(recording: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Takes out the calls that only say that no gradient is wanted, a tenth of all, and those that have been made already."""
    graph = recording.graph
    for node in graph.find_nodes(op="call_function", target=torch.ops.aten.detach.default):
        _replace(node, node.args[0])
    overwritten = _overwritten(graph)
    first: dict[tuple, torch.fx.Node] = {}
    for node in [node for node in graph.nodes if node.op == "call_function"]:
        is_random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if not is_random and overwritten.isdisjoint([_storage(node), *map(_storage, node.all_input_nodes)]):
            # Values of unlike types may be equal, as 1 and 1.0, but not written alike.
            earlier = first.setdefault((node.target, repr(node.args), repr(node.kwargs)), node)
            if earlier is not node:
                _replace(node, earlier)
    recording.recompile()
    return recording


def _replace(node: torch.fx.Node, by: torch.fx.Node) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _overwritten(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Returns the nodes whose results are changed in place later on."""
    calls = [node for node in graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    return {
        _storage(value)
        for node in calls
        for argument, value in zip(node.target._schema.arguments, node.args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    }


def _storage(node: torch.fx.Node) -> torch.fx.Node:
    """Returns the node whose result's memory this one shows, itself for most."""
    while node.target is operator.getitem or _shows_its_argument(node):
        node = node.args[0]
    return node


def _shows_its_argument(node: torch.fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.arguments:
        return False
    argument, results = node.target._schema.arguments[0], node.target._schema.returns
    return argument.alias_info is not None and any(result.alias_info is not None for result in results)
