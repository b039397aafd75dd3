"""Where a model that the user names lies: on this machine, or on the Hugging Face hub."""

import itertools
import os
import pathlib
import re
from collections.abc import Iterable

from electra_keras.errors import UserError
from electra_keras.interop.tensor_files import INDEX_SUFFIX

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]*[\w-]")
MODEL_FOLDERS = ("discriminator", "generator", "encoder")
"""Where a folder or repository holds models that it does not hold itself, as `export` and `push` leave them."""
SMALL_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "assets/tokenizer/vocabulary.txt",
    "heads.safetensors",
)
# The first of these that a repository has, or has an index of, is fetched, with its parts; TensorFlow's, Flax' and Rust's copies
# of the weights are not.
WEIGHT_FILES = ("model.safetensors", "model.weights.h5", "pytorch_model.bin")


def is_hub_id(name: str | os.PathLike) -> bool:
    """Whether a name can only mean a repository on the hub: OWNER/NAME, where neither it nor a folder OWNER is here."""
    text = os.fspath(name)
    return bool(HUB_ID.fullmatch(text)) and not os.path.lexists(text) and not os.path.isdir(text.split("/")[0])


def locate(source: str | os.PathLike) -> pathlib.Path:
    """Returns the path of a model, after fetching it when it is on the hub.

    Args:
        source: a folder, the prefix of a TensorFlow checkpoint, or OWNER/NAME on the hub.

    Raises:
        UserError: there is no such thing, or the hub cannot be reached.
    """
    if is_hub_id(source):
        return fetch(os.fspath(source))
    path = pathlib.Path(source)
    if path.exists() or path.with_name(f"{path.name}.index").is_file():
        return path
    raise UserError(f"There is no {source}. Give a folder, a TensorFlow checkpoint (.../model.ckpt-1000), or a hub id such as owner/name.")


def without_copy(places: list[str]) -> list[str]:
    """Leaves encoder out of the places of models where there are others: it is one of theirs once more, without its head.

    But for a discriminator without a head beside its generator, which looks like a generator and its own body.
    """
    return [place for place in places if place != "encoder"] or places


def fetch(repository: str) -> pathlib.Path:
    """Downloads what is needed of a repository into the hub's cache, or takes it from there; returns the folder.

    Raises:
        UserError: there is no such repository, it needs a login, or there is no network and no cached copy.
    """
    # Imported late: it takes half a second to load. HTTPError is that of its HTTP client, which changes its package by version.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        folder = pathlib.Path(snapshot_download(repository, allow_patterns=_in_folders(("", *MODEL_FOLDERS), SMALL_FILES)))
        places = without_copy([place for place in ("", *MODEL_FOLDERS) if (folder / place / "config.json").is_file()])
        for name in WEIGHT_FILES:
            folder = pathlib.Path(snapshot_download(repository, allow_patterns=_in_folders(places, _parts(name))))
            if any((folder / path).is_file() for path in _in_folders(places, (name, f"{name}{INDEX_SUFFIX}"))):
                break
    except (OSError, ValueError, HTTPError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"Cannot fetch {repository} from the Hugging Face hub ({type(error).__name__}: {reason}). "
            "Check the name and the network, or give a folder that holds the model."
        ) from error
    return folder


def _parts(name: str) -> tuple[str, ...]:
    """Returns the patterns of a file, of its index, and of the parts that the index names, as save_pretrained calls them."""
    stem, suffix = name.rsplit(".", 1)
    return name, f"{name}{INDEX_SUFFIX}", f"{stem}-*-of-*.{suffix}"


def _in_folders(folders: Iterable[str], names: Iterable[str]) -> list[str]:
    return [f"{folder}/{name}" if folder else name for folder, name in itertools.product(folders, names)]
