"""Which Keras backend runs: decided once, before keras is imported, without importing any backend."""

import difflib
import importlib.util
import os
import sys

from electra_keras.errors import BackendError

BACKENDS = ("jax", "tensorflow", "torch")
DEFAULT_BACKEND = "jax"

_INSTALL = {
    "jax": "pip install -r requirements.txt",
    "tensorflow": "pip install -r requirements.txt",
    "torch": "pip install -r requirements-torch.txt",
}


def choose_backend(argument: str | None, config_backend: str | None) -> str:
    """Chooses the backend and sets KERAS_BACKEND, which keras reads when it is imported.

    `--backend` wins over the environment's KERAS_BACKEND, which wins over the configuration; jax where none says otherwise.
    A keras that is already loaded stays as it is: where nothing asks for a backend, its backend is taken.

    Args:
        argument: value of `--backend`, or None.
        config_backend: the configuration's `backend`, or None.

    Returns:
        One of BACKENDS.

    Raises:
        BackendError: the backend is unknown or not installed, or keras is already loaded with another.
    """
    wishes = (("--backend", argument), ("KERAS_BACKEND", os.environ.get("KERAS_BACKEND")), ("The configuration's backend", config_backend))
    loaded = loaded_backend()
    source, backend = next(((source, wish) for source, wish in wishes if wish), ("The default backend", loaded or DEFAULT_BACKEND))
    if backend not in BACKENDS:
        match = difflib.get_close_matches(backend, BACKENDS, n=1, cutoff=0.4)
        hint = f" Did you mean {match[0]}?" if match else ""
        raise BackendError(f"{source} is {backend!r}; it must be one of {', '.join(BACKENDS)}.{hint}")
    if loaded is not None and loaded != backend:
        raise BackendError(
            f"{source} is {backend}, but keras is already loaded with {loaded} in this process. "
            f"Set KERAS_BACKEND={backend} before keras is imported, or ask for {loaded}."
        )
    if not is_installed(backend):
        others = [other for other in BACKENDS if is_installed(other)]
        remedy = f", or choose another that is installed: {', '.join(others)}" if others else ""
        raise BackendError(f"{source} is {backend}, which is not installed. Install it with {_INSTALL[backend]}{remedy}.")
    os.environ["KERAS_BACKEND"] = backend
    return backend


def is_installed(backend: str) -> bool:
    """Tells whether a backend's package can be found, without importing it: that would take seconds."""
    return importlib.util.find_spec(backend) is not None


def loaded_backend() -> str | None:
    """Returns the backend of the keras that this process has imported, or None."""
    keras = sys.modules.get("keras")
    return None if keras is None else keras.backend.backend()
