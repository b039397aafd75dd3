"""The model card of a run: what it is, what it was trained on, how good it is, how it is loaded.

Everything is read from the run. What nobody recorded is said to be unknown.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from electra_keras.artifacts import RunDirectory
from electra_keras.config import Config, to_dict
from electra_keras.data.hub import split_name, was_local
from electra_keras.data.prepared import read_manifest
from electra_keras.errors import ShardError
from electra_keras.interop.hub import is_hub_id
from electra_keras.interop.huggingface import ARCHITECTURES
from electra_keras.interop.pretrained import PretrainedEncoder

HUB_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
TAGS = ("electra", "replaced-token-detection", "electra_keras")


def model_card(
    run: RunDirectory, encoders: Sequence[PretrainedEncoder], *, license: str, data_description: str | None, repository: str
) -> str:
    """Writes README.md.

    Args:
        run: a run, finished or with a checkpoint.
        encoders: what is uploaded of it, as `run_encoders` returns it.
        license: of the data: an identifier of the hub, or words.
        data_description: what the corpus is; None to say only what the configuration says.
        repository: OWNER/NAME.

    Returns:
        Markdown with a YAML header. It holds no path of this machine, only the names of files.
    """
    imported = run.description.get("kind") == "imported"
    local = _is_local_data_set(run)
    parts = [
        f"---\n{yaml.safe_dump(_header(license), sort_keys=False)}---",
        f"# {repository.split('/')[-1]}",
        "An ELECTRA text encoder ([Clark et al. 2020](https://arxiv.org/abs/2003.10555)), "
        + (f"imported by electra_keras from {run.description.get('source')}." if imported else "pre-trained with electra_keras, Keras 3."),
        "## How to load",
        _loading(encoders, repository),
        "## Shape",
        _shapes(encoders),
        "## Training",
        "It was trained elsewhere: steps, tokens seen and settings are not known here." if imported else _training(run),
        "## Data",
        f"{data_description or _corpus(run.config, imported, local)}\n\nLicence of the data: {license}.",
        "## Metrics",
        _metrics(run.metrics()),
        "## Configuration",
        f"```yaml\n{yaml.safe_dump(_shown_config(run.config, imported, local), sort_keys=False, allow_unicode=True)}```",
    ]
    return "\n\n".join(parts) + "\n"


def _header(license: str) -> dict[str, Any]:
    # The hub knows licences by identifier; any other has the kind "other" and a name.
    known = {"license": license} if HUB_LICENSE.fullmatch(license) else {"license": "other", "license_name": license}
    return {**known, "library_name": "transformers", "tags": [*TAGS]}


def _loading(encoders: Sequence[PretrainedEncoder], repository: str) -> str:
    classes = [ARCHITECTURES[encoder.head] for encoder in encoders if encoder.head]
    lines = ["```python", f"from transformers import AutoTokenizer, {', '.join([*classes, ARCHITECTURES[None]])}", ""]
    for encoder in encoders:
        if encoder.head:
            lines.append(f'{encoder.role} = {ARCHITECTURES[encoder.head]}.from_pretrained("{repository}", subfolder="{encoder.role}")')
    lines.append(f'encoder = ElectraModel.from_pretrained("{repository}", subfolder="encoder")  # to fine-tune from')
    lines += [f'tokenizer = AutoTokenizer.from_pretrained("{repository}", subfolder="encoder")', "```"]
    if any(encoder.head == "detection" for encoder in encoders):
        lines += [
            "",
            "Every token's probability of having been replaced, with electra_keras:",
            "",
            "```python",
            "from electra_keras import Detector",
            "",
            f'detection = Detector.load("{repository}").score("A text with a banana that does not fit.")',
            "```",
        ]
    lines += ["", f"To train on: `electra-keras import --from {repository} --run_dir runs/mine`."]
    return "\n".join(lines)


def _shapes(encoders: Sequence[PretrainedEncoder]) -> str:
    head = "| | layers | hidden | heads | feed-forward | embeddings | positions | vocabulary |\n|---|---|---|---|---|---|---|---|"
    rows = [
        f"| {encoder.role} | {size.num_layers} | {size.hidden_dim} | {size.num_heads} | {size.intermediate_dim} | {size.embedding_dim} "
        f"| {size.max_positions} | {size.vocab_size:,} |"
        for encoder in encoders
        for size in [encoder.size]
    ]
    return "\n".join([head, *rows])


def _training(run: RunDirectory) -> str:
    config = run.config
    training, length = config.training, config.packing.sequence_length
    steps = training.num_steps if run.is_finished else run.newest_checkpoint(lambda line: None).step
    unfinished = "" if run.is_finished else f" of {training.num_steps:,} planned; this is a checkpoint"
    lines = [
        f"- objective: {config.objective.name}; recipe: {config.recipe}; optimizer: {config.optimizer.name}",
        f"- optimizer steps: {steps:,}{unfinished}",
        f"- tokens seen: {steps * training.batch_size * length:,} at most ({steps:,} steps of {training.batch_size} sequences of {length} "
        "tokens, padding counted)",
        f"- precision: {training.precision}; seed: {training.seed}; backend: {config.backend or 'unknown'}",
    ]
    return "\n".join(lines)


def _is_local_data_set(run: RunDirectory) -> bool:
    """Whether corpus.hub was a folder of this machine, which may be gone: as the data that the run was trained on says, or its name."""
    name = run.config.corpus.hub
    if name is None:
        return False
    # The data may be gone too; then the name alone tells.
    with contextlib.suppress(ShardError):
        manifest = read_manifest(run.data_path)
        corpus = manifest.get("inputs", {}).get("corpus", {})
        if manifest["input_hash"] == run.description.get("data") and corpus.get("kind") == "hub":
            return was_local(corpus)
    location, _ = split_name(name)
    return os.path.isdir(location) or ("/" in location and not is_hub_id(location))


def _folder_name(hub: str) -> str:
    """Returns a local data set's name without its place, and its configuration."""
    location, configuration = split_name(hub)
    # "." has no name of its own, and tells nothing.
    name = pathlib.PurePath(location).name or location
    return f"{name}:{configuration}" if configuration else name


def _corpus(config: Config, imported: bool, local: bool) -> str:
    corpus = config.corpus
    if imported:
        return "The corpus is not known here."
    # In the order in which they are read where both are set.
    if corpus.files:
        return f"Files of the owner's: {', '.join(pathlib.Path(path).name for path in corpus.files)}."
    if corpus.hub and local:
        return f"A local data set ({_folder_name(corpus.hub)}), split {corpus.hub_split}."
    if corpus.hub:
        return f"The data set {corpus.hub} of the Hugging Face hub, split {corpus.hub_split}."
    return f"Prose in the docstrings of Python's standard library and of {', '.join(corpus.builtin_packages)}."


def _metrics(lines: Sequence[Mapping[str, Any]]) -> str:
    validations = [line for line in lines if any(name.startswith("val_") for name in line)]
    if not validations:
        return "None were recorded."
    last = validations[-1]
    rows = [
        f"| {name.removeprefix('val_')} | {value:.4f} |"
        for name, value in last.items()
        if name.startswith("val_") and isinstance(value, int | float)
    ]
    return "\n".join([f"On held-out documents of the corpus, after step {last['step']:,}:", "", "| | |", "|---|---|", *rows])


def _shown_config(config: Config, imported: bool, local: bool) -> dict[str, Any]:
    """Returns the configuration with file names in place of paths; of an imported run, what is true of it."""
    values = to_dict(config)
    values["corpus"]["files"] = [pathlib.Path(path).name for path in values["corpus"]["files"]]
    if local:
        values["corpus"]["hub"] = f"a local data set ({_folder_name(values['corpus']['hub'])})"
    for section, field in (("tokenizer", "vocab_file"), ("model", "init_from")):
        path = values[section][field]
        values[section][field] = path and pathlib.Path(path).name
    return {name: values[name] for name in ("tokenizer", "model")} if imported else values
