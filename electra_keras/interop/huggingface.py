"""Hugging Face's directories, read and written without transformers.

Written is what transformers' classes open as it is:

    discriminator/   ElectraForPreTraining
    generator/       ElectraForMaskedLM
    encoder/         ElectraModel: the discriminator without its head, to fine-tune from
    each with config.json, model.safetensors, vocab.txt, tokenizer_config.json, special_tokens_map.json
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors.numpy import save

from electra_keras.arrays import Arrays
from electra_keras.data.vocabulary import SPECIAL_TOKENS
from electra_keras.errors import UserError
from electra_keras.files import atomic_open, write_json
from electra_keras.interop.huggingface_tokenizer import read_json, read_tokenizer, write_tokenizer
from electra_keras.interop.layout import EncoderSize, Head, check_names_and_shapes
from electra_keras.interop.pretrained import PretrainedEncoder, fitted_tokenizer
from electra_keras.interop.renaming import huggingface_name
from electra_keras.interop.tensor_files import SAFETENSORS, read_tensors
from electra_keras.modeling.constants import LAYER_NORM_EPSILON, NUM_SEGMENTS

CONFIG = "config.json"
ARCHITECTURES: Mapping[Head | None, str] = {"detection": "ElectraForPreTraining", "masked_lm": "ElectraForMaskedLM", None: "ElectraModel"}
# Our name of a size -> Hugging Face's.
SIZES = {
    "vocab_size": "vocab_size",
    "embedding_dim": "embedding_size",
    "max_positions": "max_position_embeddings",
    "num_layers": "num_hidden_layers",
    "hidden_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_dim": "intermediate_size",
}
# Settings that change the function computed, and the only values with which it is ours; absent means the value itself.
FIXED = {
    "hidden_act": "gelu",
    "layer_norm_eps": LAYER_NORM_EPSILON,
    "type_vocab_size": NUM_SEGMENTS,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
# Saved by some versions of transformers; they hold no weights.
BUFFERS = ("electra.embeddings.position_ids", "electra.embeddings.token_type_ids")
WORD_EMBEDDINGS, OUTPUT_MATRIX = "electra.embeddings.word_embeddings.weight", "generator_lm_head.weight"


def is_directory_of(folder: pathlib.Path) -> bool:
    """Whether a folder is laid out as transformers' save_pretrained leaves it."""
    return (folder / CONFIG).is_file() and "model_type" in read_json(folder / CONFIG)


def read_encoder(folder: pathlib.Path) -> PretrainedEncoder:
    """Reads a discriminator, a generator or an encoder without a head.

    Raises:
        UserError: the folder holds another architecture, lacks a file or tensor, or has one of another shape.
    """
    config = read_json(folder / CONFIG)
    size = _read_size(config, folder / CONFIG)
    tensors, path = read_tensors(folder)
    tensors = _without_ties(tensors, path)
    head = _head_of(tensors)
    if head is None and any(name.startswith("embeddings.") for name in tensors):
        # ElectraModel saves its weights without the prefix that they have inside a model with a head.
        tensors = {f"electra.{name}": tensor for name, tensor in tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in BUFFERS}
    shapes = size.weight_shapes(head)
    wanted = {huggingface_name(name): shape[::-1] if _is_matrix(name) else shape for name, shape in shapes.items()}
    check_names_and_shapes({name: tensor.shape for name, tensor in tensors.items()}, wanted, str(path))
    weights = {name: _turned(name, tensors[huggingface_name(name)]) for name in shapes}
    vocab, settings = read_tokenizer(folder)
    return PretrainedEncoder(
        size=size,
        head=head,
        weights=weights,
        tokenizer=fitted_tokenizer(vocab, settings, size.vocab_size, str(folder)),
        dropout=float(config.get("hidden_dropout_prob", 0.1)),
        attention_dropout=float(config.get("attention_probs_dropout_prob", 0.1)),
        source=str(folder),
    )


def write_encoder(encoder: PretrainedEncoder, folder: pathlib.Path) -> None:
    """Writes a folder that transformers opens, and `read_encoder` reads back bit by bit."""
    tensors = {huggingface_name(name): _turned(name, array) for name, array in encoder.weights.items()}
    if encoder.head is None:
        tensors = {name.removeprefix("electra."): tensor for name, tensor in tensors.items()}
    with atomic_open(folder / SAFETENSORS, "wb") as file:
        # transformers before version 5 refuses files that do not say whose layout they have.
        file.write(save(tensors, metadata={"format": "pt"}))
    write_json(folder / CONFIG, _written_config(encoder))
    write_tokenizer(encoder.tokenizer, encoder.size.max_positions, folder)
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    write_json(folder / "special_tokens_map.json", dict(zip(names, SPECIAL_TOKENS, strict=True)))


def write_encoders(encoders: Sequence[PretrainedEncoder], folder: pathlib.Path) -> list[str]:
    """Writes every encoder into a folder of its own, and the first once more without its head.

    transformers' ElectraModel opens the folder of a model with a head too, but reports the head's tensors as unexpected.

    Returns:
        One line for the user on each folder.
    """
    headless = dataclasses.replace(encoders[0], head=None, weights=_without_head(encoders[0]))
    lines = []
    for encoder in [*(encoder for encoder in encoders if encoder.head), headless]:
        write_encoder(encoder, folder / encoder.role)
        lines.append(f"{encoder.role}/ opens with transformers.{ARCHITECTURES[encoder.head]}.from_pretrained")
    return lines


def _without_head(encoder: PretrainedEncoder) -> Arrays:
    return {name: encoder.weights[name] for name in encoder.size.weight_shapes(None)}


def _read_size(config: Mapping[str, Any], path: pathlib.Path) -> EncoderSize:
    kind = config.get("model_type")
    if kind != "electra":
        raise UserError(f"{path} describes a model of type {kind!r}. Only ELECTRA (model_type 'electra') can be imported.")
    for name, value in FIXED.items():
        given = config.get(name, value)
        if given != value and given is not None:
            raise UserError(f"{path} has {name} {given!r}; here it is always {value!r}, so the model would compute something else.")
    missing = [theirs for theirs in SIZES.values() if not isinstance(config.get(theirs), int) or config[theirs] < 1]
    if missing:
        raise UserError(f"{path} gives no whole number for {', '.join(missing)}. Fetch it again.")
    return EncoderSize(**{ours: config[theirs] for ours, theirs in SIZES.items()})


def _without_ties(tensors: Arrays, path: pathlib.Path) -> Arrays:
    """Leaves the output matrix out, which is the word embeddings once more."""
    output = tensors.get(OUTPUT_MATRIX)
    if (
        output is not None
        and WORD_EMBEDDINGS in tensors
        and (output.shape != tensors[WORD_EMBEDDINGS].shape or (output != tensors[WORD_EMBEDDINGS]).any())
    ):
        raise UserError(
            f"{path}: {OUTPUT_MATRIX} differs from {WORD_EMBEDDINGS}. Here the generator's output matrix is always the embeddings."
        )
    return {name: tensor for name, tensor in tensors.items() if name != OUTPUT_MATRIX}


def _head_of(tensors: Arrays) -> Head | None:
    if any(name.startswith("discriminator_predictions.") for name in tensors):
        return "detection"
    if any(name.startswith(("generator_predictions.", "generator_lm_head.")) for name in tensors):
        return "masked_lm"
    return None


def _is_matrix(name: str) -> bool:
    return name.endswith("/kernel")


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    # PyTorch's matrices are (outputs, inputs).
    return np.ascontiguousarray(array.T) if _is_matrix(name) else array


def _written_config(encoder: PretrainedEncoder) -> dict[str, Any]:
    return {
        "architectures": [ARCHITECTURES[encoder.head]],
        "model_type": "electra",
        **{theirs: getattr(encoder.size, ours) for ours, theirs in SIZES.items()},
        "hidden_act": "gelu",
        "hidden_dropout_prob": encoder.dropout,
        "attention_probs_dropout_prob": encoder.attention_dropout,
        "initializer_range": 0.02,
        "layer_norm_eps": LAYER_NORM_EPSILON,
        "type_vocab_size": NUM_SEGMENTS,
        "pad_token_id": encoder.tokenizer.pad_id,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }
