"""KerasHub's presets, both ways.

A preset holds an encoder and a tokenizer. KerasHub's ElectraBackbone differs from the original in two points: its GELU is the
tanh approximation, so its outputs differ by a little, which the export measures; and it has a pooler, which ELECTRA lacks:
written as the identity with a bias of zero, dropped on reading. Heads have no place in a preset and lie beside it:

    discriminator/, generator/    config.json, model.weights.h5, tokenizer.json, assets/, metadata.json: the preset
                                  heads.safetensors: the head, under the names it has in a run
"""

import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from electra_keras.arrays import Arrays, load_arrays, save_arrays
from electra_keras.backend import choose_backend
from electra_keras.data.vocabulary import CONTINUATION, read_vocabulary
from electra_keras.errors import UserError
from electra_keras.files import write_json
from electra_keras.interop.huggingface_tokenizer import read_json
from electra_keras.interop.layout import EncoderSize, Head, check_names_and_shapes, listing, to_run_weights
from electra_keras.interop.pretrained import PretrainedEncoder, fitted_tokenizer
from electra_keras.modeling.constants import NUM_SEGMENTS

CONFIG, TOKENIZER, WEIGHTS, HEADS = "config.json", "tokenizer.json", "model.weights.h5", "heads.safetensors"
VOCABULARY = "assets/tokenizer/vocabulary.txt"
SIZES = {name: name for name in ("vocab_size", "embedding_dim", "num_layers", "hidden_dim", "num_heads", "intermediate_dim")}
SIZES["max_positions"] = "max_sequence_length"
PREFIXES: Mapping[Head, tuple[str, ...]] = {"detection": ("detection_head/",), "masked_lm": ("masked_lm_head/", "output_bias/")}
_LAYER_MODULES = {
    "attention/query": "self_attention_layer/query",
    "attention/key": "self_attention_layer/key",
    "attention/value": "self_attention_layer/value",
    "attention/output": "self_attention_layer/attention_output",
    "attention_norm": "self_attention_layer_norm",
    "intermediate": "feedforward_intermediate_dense",
    "output": "feedforward_output_dense",
    "output_norm": "feedforward_layer_norm",
}
_EMBEDDING_MODULES = {
    "embeddings/word": "token_embedding",
    "embeddings/position": "position_embedding",
    "embeddings/segment": "segment_embedding",
    "embeddings/norm": "embeddings_layer_norm",
    "embeddings_project": "embeddings_projection",
}


def is_preset(folder: pathlib.Path) -> bool:
    """Whether a folder is laid out as KerasHub's save_to_preset leaves it."""
    return (folder / CONFIG).is_file() and "registered_name" in read_json(folder / CONFIG)


def read_encoder(folder: pathlib.Path) -> PretrainedEncoder:
    """Reads a preset, and its head where one lies beside it.

    Nothing that the preset's files name is looked up or run: of its configuration the numbers are read, and the weights go
    into a backbone built from them.

    Raises:
        UserError: it is the preset of another model, lacks a file, or is damaged.
    """
    config = read_json(folder / CONFIG)
    size, values = _read_size(config, folder / CONFIG)
    vocab, settings = _read_tokenizer(folder)
    tokenizer = fitted_tokenizer(vocab, settings, size.vocab_size, str(folder))
    backbone = _build_backbone(size, float(values.get("dropout", 0.1)))
    _load_weights(backbone, folder)
    variables = {variable.path: variable for variable in backbone.weights}
    shapes = size.weight_shapes(None)
    weights = {name: _to_array(variables[backbone_name(name)]).reshape(shape) for name, shape in shapes.items()}
    head, head_weights = _read_head(folder, size)
    dropout = float(values.get("dropout", 0.1))
    return PretrainedEncoder(size, head, weights | head_weights, tokenizer, dropout, dropout, str(folder))


def write_encoders(encoders: Sequence[PretrainedEncoder], folder: pathlib.Path) -> list[str]:
    """Writes every encoder as a preset into a folder of its own, with its head beside it.

    Returns:
        Lines for the user: how each opens, and how far KerasHub's outputs are from ours.
    """
    lines = []
    for encoder in encoders:
        target = folder / encoder.role
        difference, scale = write_encoder(encoder, target)
        lines.append(
            f"{encoder.role}/ opens with keras_hub.models.ElectraBackbone.from_preset and ElectraTokenizer.from_preset. Its GELU is "
            f"the tanh approximation: on random tokens the outputs differ by at most {difference:.1e} (they are about {scale:.2g})."
        )
    return lines


def write_encoder(encoder: PretrainedEncoder, folder: pathlib.Path) -> tuple[float, float]:
    """Writes one preset; returns what `measure_difference` does."""
    import keras_hub

    backbone = _build_backbone(encoder.size, encoder.dropout)
    variables = {variable.path: variable for variable in backbone.weights}
    for name in encoder.size.weight_shapes(None):
        variable = variables[backbone_name(name)]
        variable.assign(encoder.weights[name].reshape(variable.shape))
    variables["pooled_dense/kernel"].assign(np.eye(encoder.size.hidden_dim, dtype=np.float32))
    variables["pooled_dense/bias"].assign(np.zeros(encoder.size.hidden_dim, np.float32))
    settings = encoder.tokenizer.settings
    accents = settings["lowercase"] if settings["strip_accents"] is None else settings["strip_accents"]
    tokenizer = keras_hub.models.ElectraTokenizer(
        encoder.tokenizer.vocab, lowercase=settings["lowercase"], strip_accents=accents, split_on_cjk=settings["split_chinese"]
    )
    folder.mkdir(parents=True)
    backbone.save_to_preset(str(folder))
    tokenizer.save_to_preset(str(folder))
    # KerasHub 0.32 reads this setting back but does not write it.
    saved = read_json(folder / TOKENIZER)
    saved["config"]["split_on_cjk"] = settings["split_chinese"]
    write_json(folder / TOKENIZER, saved)
    head = {name: array for name, array in encoder.weights.items() if encoder.head and name.startswith(PREFIXES[encoder.head])}
    if head:
        save_arrays(folder / HEADS, head)
    return measure_difference(backbone, encoder)


def measure_difference(backbone: Any, encoder: PretrainedEncoder) -> tuple[float, float]:
    """Compares KerasHub's outputs with ours on random tokens.

    Returns:
        The largest absolute difference, and the root mean square of our outputs.
    """
    from electra_keras.modeling.models import build_encoder
    from electra_keras.modeling.weights import load_named_weights

    size = encoder.size
    ours = build_encoder(size.model_config(), size.vocab_size, dtype="float32")
    load_named_weights({"discriminator": ours}, to_run_weights(encoder.weights, "discriminator", own_embeddings=False), ignore_extra=True)
    shape = (4, min(64, size.max_positions))
    token_ids = np.random.default_rng(0).integers(0, size.vocab_size, shape).astype(np.int32)
    inputs = {"token_ids": token_ids, "segment_ids": np.zeros(shape, np.int32), "padding_mask": np.ones(shape, np.int32)}
    expected = np.asarray(ours.predict_on_batch(inputs))
    found = np.asarray(backbone.predict_on_batch(inputs)["sequence_output"])
    return float(np.abs(found - expected).max()), float(np.sqrt(np.mean(expected**2)))


def backbone_name(name: str) -> str:
    """Returns the path that a weight of `EncoderSize.weight_shapes` has in an ElectraBackbone; the pooler has none."""
    module, _, parameter = name.rpartition("/")
    if module in _EMBEDDING_MODULES:
        return f"{_EMBEDDING_MODULES[module]}/{parameter}"
    layer, _, inner = module.partition("/")
    return f"{layer.replace('layer_', 'transformer_layer_')}/{_LAYER_MODULES[inner]}/{parameter}"


def _build_backbone(size: EncoderSize, dropout: float) -> Any:
    # A caller may have had no need of keras so far.
    choose_backend(None, None)

    import keras_hub

    sizes = {theirs: getattr(size, ours) for ours, theirs in SIZES.items()}
    return keras_hub.models.ElectraBackbone(**sizes, dropout=dropout, num_segments=NUM_SEGMENTS, dtype="float32", name="electra_backbone")


def _load_weights(backbone: Any, folder: pathlib.Path) -> None:
    import h5py

    for variable in backbone.weights:
        variable.assign(np.full(variable.shape, np.nan, np.float32))
    try:
        with warnings.catch_warnings():
            # What Keras warns of is checked below, for all it does not find.
            warnings.simplefilter("ignore")
            backbone.load_weights(folder / WEIGHTS)
        stored: list[str] = []
        with h5py.File(folder / WEIGHTS, "r") as file:
            file.visititems(lambda name, item: stored.append(name) if isinstance(item, h5py.Dataset) else None)
    # h5py and Keras raise whatever they meet first in a damaged file.
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{folder / WEIGHTS} does not hold the weights that {folder / CONFIG} describes ({reason}). Fetch it again."
        ) from error
    # Keras passes over what it does not look for, and warns only of some of what it does not find.
    unset = [variable.path for variable in backbone.weights if np.isnan(_to_array(variable)).any()]
    stored = [name for name in stored if "/vars/" in name and "seed_generator" not in name]
    if unset or len(stored) != len(backbone.weights):
        raise UserError(
            f"{folder / WEIGHTS} does not hold the weights that {folder / CONFIG} describes: it has {len(stored)} arrays where "
            f"{len(backbone.weights)} are needed{f', and none for {listing(unset)}' if unset else ''}. Fetch it again."
        )


def _to_array(variable: Any) -> np.ndarray:
    import keras

    return np.array(keras.ops.convert_to_numpy(variable.value))


def _read_size(config: Mapping[str, Any], path: pathlib.Path) -> tuple[EncoderSize, Mapping[str, Any]]:
    name = config.get("registered_name")
    # KerasHub was called KerasNLP when the published presets were made.
    if name not in ("keras_hub>ElectraBackbone", "keras_nlp>ElectraBackbone"):
        raise UserError(f"{path} is the preset of {name}. Only presets of ElectraBackbone can be imported.")
    values = config.get("config")
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no configuration. Fetch it again.")
    missing = [theirs for theirs in SIZES.values() if not isinstance(values.get(theirs), int) or values[theirs] < 1]
    if missing:
        raise UserError(f"{path} gives no whole number for {', '.join(missing)}. Fetch it again.")
    if values.get("num_segments", NUM_SEGMENTS) != NUM_SEGMENTS:
        raise UserError(f"{path} has {values['num_segments']} segments; here there are always {NUM_SEGMENTS}.")
    return EncoderSize(**{ours: values[theirs] for ours, theirs in SIZES.items()}), values


def _read_tokenizer(folder: pathlib.Path) -> tuple[list[str], dict[str, bool | None]]:
    values = read_json(folder / TOKENIZER).get("config", {})
    if values.get("suffix_indicator", CONTINUATION) != CONTINUATION or values.get("split", True) is not True:
        raise UserError(f"{folder / TOKENIZER} describes no WordPiece as BERT's. Such a tokenizer cannot be imported.")
    lowercase, accents = bool(values.get("lowercase", False)), bool(values.get("strip_accents", False))
    settings = {
        "lowercase": lowercase,
        # BERT's own rule where it gives the same.
        "strip_accents": None if accents == lowercase else accents,
        "split_chinese": bool(values.get("split_on_cjk", True)),
    }
    return read_vocabulary(folder / VOCABULARY), settings


def _read_head(folder: pathlib.Path, size: EncoderSize) -> tuple[Head | None, Arrays]:
    if not (folder / HEADS).is_file():
        return None, {}
    arrays = load_arrays(folder / HEADS)
    head: Head = "detection" if any(name.startswith(PREFIXES["detection"]) for name in arrays) else "masked_lm"
    wanted = {name: shape for name, shape in size.weight_shapes(head).items() if name.startswith(PREFIXES[head])}
    check_names_and_shapes({name: array.shape for name, array in arrays.items()}, wanted, str(folder / HEADS))
    return head, arrays
