"""Models from elsewhere, of whatever format, to runs."""

import os
import pathlib
from collections.abc import Callable

from electra_keras.artifacts import RunDirectory
from electra_keras.data.replacing import check_free, replaced_folder
from electra_keras.errors import UserError
from electra_keras.interop import huggingface, keras_hub, original
from electra_keras.interop.hub import MODEL_FOLDERS, is_hub_id, locate, without_copy
from electra_keras.interop.pretrained import PretrainedEncoder, PretrainedRun, put_together


def import_run(
    source: str | os.PathLike,
    run_dir: str | os.PathLike,
    *,
    generator_from: str | os.PathLike | None = None,
    only: str | None = None,
    report: Callable[[str], None] = print,
) -> RunDirectory:
    """Makes a run directory of a pretrained model.

    Args:
        source: a folder in Hugging Face's or KerasHub's layout, or one with such folders called discriminator and generator, or
            encoder alone; a TensorFlow 1 checkpoint of the original, or the folder that holds it; or OWNER/NAME on the Hugging Face hub.
        run_dir: a new or empty folder.
        generator_from: the same for the generator, where it lies apart.
        only: "discriminator" or "generator" leaves the other one out; None takes what is there.
        report: takes lines for the user.

    Returns:
        The finished run; it has weights and a vocabulary, no corpus and no metrics.

    Raises:
        UserError: the source cannot be used, or run_dir is not empty; nothing has been written then.
    """
    path = pathlib.Path(run_dir)
    check_free(path)
    pretrained = read_pretrained(source, generator_from=generator_from, only=only)
    description = {"kind": "imported", "source": _label(source), "missing": list(pretrained.missing)}
    with replaced_folder(path) as folder:
        run = RunDirectory.create(folder, pretrained.config, pretrained.tokenizer, description)
        run.finish(pretrained.weights)
    for line in _summary(pretrained, path, source):
        report(line)
    return RunDirectory.open(path)


def read_pretrained(
    source: str | os.PathLike, *, generator_from: str | os.PathLike | None = None, only: str | None = None
) -> PretrainedRun:
    """Reads a model from elsewhere into memory; arguments and errors are those of `import_run`."""
    encoders = read_encoders(locate(source))
    if generator_from is not None:
        generators = [encoder for encoder in read_encoders(locate(generator_from)) if encoder.head == "masked_lm"]
        if not generators:
            raise UserError(f"{generator_from} holds no generator (ElectraForMaskedLM).")
        encoders = [encoder for encoder in encoders if encoder.head != "masked_lm"] + generators
    if only is not None:
        encoders = [encoder for encoder in encoders if (encoder.head == "masked_lm") == (only == "generator")]
        if not encoders:
            raise UserError(f"{source} holds no {only}.")
    return put_together(encoders)


def read_encoders(path: pathlib.Path) -> list[PretrainedEncoder]:
    """Reads everything a folder or checkpoint holds.

    Raises:
        UserError: it has no layout that is known, or it cannot be used.
    """
    if RunDirectory(path).exists():
        raise UserError(f"{path} is a run directory already. Use it as it is.")
    if huggingface.is_directory_of(path):
        return [huggingface.read_encoder(path)]
    if keras_hub.is_preset(path):
        return [keras_hub.read_encoder(path)]
    inner = [name for name in MODEL_FOLDERS if huggingface.is_directory_of(path / name) or keras_hub.is_preset(path / name)]
    if inner:
        return [encoder for name in without_copy(inner) for encoder in read_encoders(path / name)]
    checkpoint = original.find_checkpoint(path)
    if checkpoint is not None:
        return original.read_encoders(checkpoint)
    raise UserError(
        f"{path} holds no model: neither a config.json of Hugging Face's ELECTRA or of a KerasHub preset, itself or in "
        f"{' or '.join(MODEL_FOLDERS)}, nor a TensorFlow checkpoint (.index)."
    )


def _label(source: str | os.PathLike) -> str:
    # A path would name a place that only this machine has.
    return os.fspath(source) if is_hub_id(source) else pathlib.Path(source).resolve().name


def _summary(pretrained: PretrainedRun, path: pathlib.Path, source: str | os.PathLike) -> list[str]:
    model = pretrained.config.model
    shape = f"{model.num_layers} layers of {model.hidden_dim}, {model.num_heads} heads, {pretrained.tokenizer.vocab_size:,} entries"
    lines = [f"Imported {source} to {path}: {shape}."]
    if pretrained.config.objective.name == "mlm":
        lines.append("It is a generator alone, so this is a run of the objective mlm: it predicts tokens and detects nothing.")
    elif "detection head" in pretrained.missing:
        lines.append("It has no detection head: fine-tuning can start from it; detecting, evaluating and pre-training on cannot.")
    elif "generator" in pretrained.missing:
        lines.append(
            "It has no generator: detecting and fine-tuning work; evaluating and pre-training on need one. "
            "Import it again with --generator_from."
        )
    return lines
