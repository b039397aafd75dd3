"""Runs to directories that other libraries open."""

import os
import pathlib
from collections.abc import Callable, Sequence

from electra_keras.artifacts import RunDirectory
from electra_keras.data.replacing import check_free, replaced_folder
from electra_keras.errors import UserError
from electra_keras.interop import huggingface, keras_hub
from electra_keras.interop.formats.files import FILE_WRITERS, folder_writer
from electra_keras.interop.layout import EncoderSize, Head, check_names_and_shapes, from_run_weights
from electra_keras.interop.pretrained import PretrainedEncoder

# Writes encoders into a folder and returns lines for the user.
Writer = Callable[[Sequence[PretrainedEncoder], pathlib.Path], list[str]]
WRITERS: dict[str, Writer] = {"huggingface": huggingface.write_encoders, "keras_hub": keras_hub.write_encoders}
WRITERS |= {name: folder_writer(name) for name in FILE_WRITERS}


def export_run(run_dir: str | os.PathLike, to: str, out_dir: str | os.PathLike, *, report: Callable[[str], None] = print) -> None:
    """Writes a run's models in another library's layout, or its detector as a file for inference.

    Args:
        run_dir: a run, finished or with a checkpoint.
        to: a library, "huggingface" or "keras_hub", or a format for inference: one of `WRITERS`.
        out_dir: a new or empty folder.
        report: takes lines for the user.

    Raises:
        UserError: the run cannot be used, or out_dir is not empty; nothing has been written then.
    """
    path = pathlib.Path(out_dir)
    if to not in WRITERS:
        raise UserError(f"There is no export to {to!r}; choose {' or '.join(WRITERS)}.")
    check_free(path)
    encoders = run_encoders(RunDirectory.open(run_dir))
    with replaced_folder(path) as folder:
        lines = WRITERS[to](encoders, folder)
    report(f"Exported {run_dir} to {path}.")
    for line in lines:
        report(line)


def run_encoders(run: RunDirectory) -> list[PretrainedEncoder]:
    """Takes a run apart into its encoders.

    Raises:
        RunError: the run is damaged.
        UserError: its weights are not those of its configuration.
    """
    config, tokenizer, arrays = run.config, run.tokenizer(), run.final_weights()
    models: dict[str, tuple[Head, dict[str, int]]] = {
        "discriminator": ("detection", config.model.discriminator_shape()),
        "generator": ("masked_lm", config.model.generator_shape()),
        "encoder": ("masked_lm", config.model.discriminator_shape()),
    }
    encoders = []
    for name, (head, shape) in models.items():
        weights = from_run_weights(arrays, name)
        if not weights:
            continue
        size = EncoderSize(tokenizer.vocab_size, config.model.embedding_dim, config.model.max_positions, **shape)
        kept = head if any(weight.startswith((head, "output_bias")) for weight in weights) else None
        check_names_and_shapes({weight: array.shape for weight, array in weights.items()}, size.weight_shapes(kept), f"{run.path} ({name})")
        encoders.append(
            PretrainedEncoder(size, kept, weights, tokenizer, config.model.dropout, config.model.attention_dropout, f"{run.path} ({name})")
        )
    if not encoders:
        raise UserError(f"{run.path} holds no encoder that can be exported.")
    return encoders
