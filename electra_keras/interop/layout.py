"""What an ELECTRA consists of, in names and shapes that belong to no library, and how these become a run's weights.

Every other library keeps query, key and value apart and calls a layer by other words. The converters therefore meet here:
matrices are (inputs, outputs), names are those of `modeling.weights` without the model's name, "layer_0/attention/query/kernel".
A run fuses query, key and value, and says in a weight's name which model it belongs to.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from electra_keras.arrays import Arrays
from electra_keras.config import ModelConfig
from electra_keras.errors import UserError
from electra_keras.modeling.constants import NUM_SEGMENTS

Head = Literal["detection", "masked_lm"]
Shape = tuple[int, ...]
ATTENTION_PARTS = ("query", "key", "value")


@dataclasses.dataclass(frozen=True)
class EncoderSize:
    """The size of one encoder and its embeddings.

    Attributes:
        vocab_size: rows of the word embeddings.
        embedding_dim: width of the embeddings.
        max_positions: rows of the position embeddings.
        num_layers: Transformer blocks.
        hidden_dim: width between them.
        num_heads: attention heads; divides hidden_dim.
        intermediate_dim: width of the feed-forward layers.
    """

    vocab_size: int
    embedding_dim: int
    max_positions: int
    num_layers: int
    hidden_dim: int
    num_heads: int
    intermediate_dim: int

    def model_config(self) -> ModelConfig:
        """Returns the configuration of a discriminator, or encoder, of this size, for inference."""
        return ModelConfig(
            num_layers=self.num_layers,
            hidden_dim=self.hidden_dim,
            num_heads=self.num_heads,
            intermediate_dim=self.intermediate_dim,
            embedding_dim=self.embedding_dim,
            max_positions=self.max_positions,
            generator_width_fraction=1.0,
            dropout=0.0,
            attention_dropout=0.0,
        )

    def weight_shapes(self, head: Head | None) -> dict[str, Shape]:
        """Returns every weight's shape by name, for an encoder with a head or without one."""
        shapes = self._embedding_shapes()
        if self.embedding_dim != self.hidden_dim:
            shapes |= _dense("embeddings_project", self.embedding_dim, self.hidden_dim)
        for index in range(self.num_layers):
            shapes |= self._layer_shapes(f"layer_{index}")
        if head == "detection":
            shapes |= _dense("detection_head/dense", self.hidden_dim, self.hidden_dim)
            shapes |= _dense("detection_head/prediction", self.hidden_dim, 1)
        elif head == "masked_lm":
            shapes |= _dense("masked_lm_head/dense", self.hidden_dim, self.embedding_dim)
            shapes |= _norm("masked_lm_head/norm", self.embedding_dim)
            shapes["output_bias/bias"] = (self.vocab_size,)
        return shapes

    def _embedding_shapes(self) -> dict[str, Shape]:
        rows = {"word": self.vocab_size, "position": self.max_positions, "segment": NUM_SEGMENTS}
        tables = {f"embeddings/{name}/embeddings": (count, self.embedding_dim) for name, count in rows.items()}
        return tables | _norm("embeddings/norm", self.embedding_dim)

    def _layer_shapes(self, name: str) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for part in (*ATTENTION_PARTS, "output"):
            shapes |= _dense(f"{name}/attention/{part}", self.hidden_dim, self.hidden_dim)
        shapes |= _norm(f"{name}/attention_norm", self.hidden_dim)
        shapes |= _dense(f"{name}/intermediate", self.hidden_dim, self.intermediate_dim)
        shapes |= _dense(f"{name}/output", self.intermediate_dim, self.hidden_dim)
        return shapes | _norm(f"{name}/output_norm", self.hidden_dim)


def to_run_weights(weights: Arrays, model_name: str, *, own_embeddings: bool) -> Arrays:
    """Renames and fuses an encoder's weights as a run keeps them.

    Args:
        weights: by the names of `EncoderSize.weight_shapes`.
        model_name: "discriminator", "generator", or "encoder" in a run of the objective mlm.
        own_embeddings: whether the embeddings belong to this model alone.

    Returns:
        Weights by structural name, as `modeling.weights.named_weights` has them.
    """
    converted: Arrays = {}
    for name, array in weights.items():
        if name.startswith("embeddings/"):
            converted[f"{model_name}/own_{name}" if own_embeddings else name] = array
        elif "/query/" in name:
            parts = [weights[name.replace("/query/", f"/{part}/")] for part in ATTENTION_PARTS]
            converted[f"{model_name}/{name.replace('/query/', '/qkv/')}"] = np.concatenate(parts, axis=-1)
        elif "/key/" not in name and "/value/" not in name:
            converted[f"{model_name}/{name}"] = array
    return converted


def from_run_weights(arrays: Mapping[str, np.ndarray], model_name: str) -> Arrays:
    """Takes one model out of a run's weights, its embeddings as it sees them; the opposite of `to_run_weights`.

    With disentangled embeddings the discriminator sees the sum of the shared ones and its difference.

    Returns:
        Weights by the names of `EncoderSize.weight_shapes`; empty when the run has no such model.
    """
    own = {name.removeprefix(f"{model_name}/"): array for name, array in arrays.items() if name.startswith(f"{model_name}/")}
    if not own:
        return {}
    weights = {name: array for name, array in arrays.items() if name.startswith("embeddings/")}
    for name, array in own.items():
        if name.startswith("own_embeddings/"):
            weights[name.removeprefix("own_")] = array
        elif name.startswith("embeddings_difference/"):
            target = name.replace("embeddings_difference/", "embeddings/")
            weights[target] = array if "/norm/" in name else weights[target] + array
        elif "/qkv/" in name:
            for part, values in zip(ATTENTION_PARTS, np.split(array, 3, axis=-1), strict=True):
                weights[name.replace("/qkv/", f"/{part}/")] = np.ascontiguousarray(values)
        else:
            weights[name] = array
    return weights


def check_names_and_shapes(found: Mapping[str, Shape], wanted: Mapping[str, Shape], where: str) -> None:
    """Compares the tensors that are there with those that an ELECTRA of this size needs.

    Args:
        found: shapes by name, as they stand in the file.
        wanted: shapes by the same names.
        where: the file, for the message.

    Raises:
        UserError: names the tensors left over on both sides and those of another shape.
    """
    problems = []
    missing, extra = [name for name in wanted if name not in found], [name for name in found if name not in wanted]
    if missing:
        problems.append(f"missing: {listing(missing)}")
    if extra:
        problems.append(f"left over: {listing(extra)}")
    for name, shape in wanted.items():
        if name in found and tuple(found[name]) != tuple(shape):
            problems.append(f"{name} is {tuple(found[name])} and should be {tuple(shape)}")
    if problems:
        raise UserError(
            f"{where} does not hold the weights of the ELECTRA it is said to hold: {listing(problems, 8, '; ')}. Fetch it again."
        )


def listing(names: Iterable[str], shown: int = 5, separator: str = ", ") -> str:
    """Joins names, the first few of many."""
    names = list(names)
    more = [f"and {len(names) - shown} more"] if len(names) > shown else []
    return separator.join([*names[:shown], *more])


def _dense(name: str, inputs: int, outputs: int) -> dict[str, Shape]:
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}/gamma": (width,), f"{name}/beta": (width,)}
