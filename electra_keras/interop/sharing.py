"""A run as a repository on the Hugging Face hub: a folder with a model card, and its upload."""

import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from electra_keras.artifacts import RunDirectory
from electra_keras.data.replacing import check_free, replaced_folder
from electra_keras.errors import UserError
from electra_keras.files import atomic_open
from electra_keras.interop.exporting import run_encoders
from electra_keras.interop.hub import HUB_ID
from electra_keras.interop.huggingface import write_encoders
from electra_keras.interop.model_card import model_card


def build_model_folder(
    run_dir: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    license: str = "unknown",
    data_description: str | None = None,
    repository: str | None = None,
) -> pathlib.Path:
    """Writes what is uploaded: the run in Hugging Face's layout, and README.md, its model card.

    Neither paths of this machine nor checkpoints nor optimizer state get in.

    Args:
        run_dir: a run, finished or with a checkpoint.
        folder: a new or empty folder.
        license: of the data: an identifier of the hub, or words; "unknown" is what the card then says.
        data_description: what the corpus is, in a sentence; None to say only what the configuration says.
        repository: OWNER/NAME that the loading examples name; None for a placeholder.

    Returns:
        The folder.

    Raises:
        UserError: the run cannot be used, or the folder is not empty; nothing has been written then.
    """
    path = pathlib.Path(folder)
    check_free(path)
    run = RunDirectory.open(run_dir)
    encoders = run_encoders(run)
    card = model_card(run, encoders, license=license, data_description=data_description, repository=repository or "OWNER/NAME")
    with replaced_folder(path) as partial:
        write_encoders(encoders, partial)
        with atomic_open(partial / "README.md") as file:
            file.write(card)
    return path


def push_run(
    run_dir: str | os.PathLike,
    repository: str,
    *,
    private: bool = False,
    license: str = "unknown",
    data_description: str | None = None,
    api: Any = None,
    report: Callable[[str], None] = print,
) -> None:
    """Uploads a run to the hub; the repository is made where there is none.

    Args:
        run_dir: a run, finished or with a checkpoint.
        repository: OWNER/NAME.
        private: whether a new repository is visible to its owner alone.
        license: as for `build_model_folder`.
        data_description: as for `build_model_folder`.
        api: a huggingface_hub.HfApi; None for one with the token of this machine's login.
        report: takes lines for the user.

    Raises:
        UserError: the run cannot be used, there is no network, no token, or no right to write to the repository.
    """
    if not HUB_ID.fullmatch(repository):
        raise UserError(f"{repository!r} is no name on the hub; it must be OWNER/NAME.")
    with tempfile.TemporaryDirectory(prefix="electra-keras-") as temporary:
        folder = pathlib.Path(temporary) / "model"
        build_model_folder(run_dir, folder, license=license, data_description=data_description, repository=repository)
        address = _upload(folder, repository, private, api)
    report(f"Uploaded {run_dir} to {address}.")
    if license == "unknown":
        report("Its card says that the licence of the data is unknown; name it with --license.")


def _upload(folder: pathlib.Path, repository: str, private: bool, api: Any) -> str:
    # Imported late: it takes half a second to load. HTTPError is that of its HTTP client, which changes its package by version.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    api = api or HfApi(library_name="electra_keras")
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by electra-keras push")
    except (OSError, ValueError, HTTPError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise UserError(
            f"Cannot upload to {repository} ({type(error).__name__}: {reason}). Check the network, log in with `hf auth login` or set "
            "HF_TOKEN to a token that may write, and check the owner's name."
        ) from error
    return str(address)
