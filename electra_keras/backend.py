"""Which Keras backend runs: decided once, before keras is imported, without importing any backend."""

import contextlib
import difflib
import hashlib
import importlib.util
import os
import pathlib
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator

from electra_keras.errors import BackendError

BACKENDS = ("jax", "tensorflow", "torch")
DEFAULT_BACKEND = "jax"
CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
XLA_VARIABLE = "XLA_FLAGS"
VECTOR_FLAG = "--xla_cpu_prefer_vector_width"
KERAS_EXTRAS = ("sklearn", "matplotlib", "pandas")
"""What keras imports along, where it is installed, for wrappers, pictures and data frames of its own."""
LOG_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"
# Beyond that, JAX drops what was used longest ago.
MAX_CACHE_BYTES = 2 * 1024**3

_INSTALL = {
    "jax": "pip install -r requirements.txt",
    "tensorflow": "pip install -r requirements.txt",
    "torch": "pip install -r requirements-torch.txt",
}

# What tells of a GPU: NVIDIA's driver, the one that Windows lends to Linux, and AMD's.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
# Lines of TensorFlow's C++, of all levels, about a GPU that it has looked for; and what absl says before the first of them.
_GPU_COMPLAINT = re.compile(rb"[IWE]\d{4} .*\bcuda\w*\.cc:|WARNING: All log messages before absl::InitializeLog")


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


def load_backend(argument: str | None, config_backend: str | None) -> str:
    """Prepares the backend as `prepare_backend` does, and imports keras with it.

    For commands that compute; the others may need no keras, or have it on a backend that they choose.

    Returns:
        One of BACKENDS.

    Raises:
        BackendError: as `choose_backend`.
    """
    wants_log = LOG_VARIABLE in os.environ
    backend = prepare_backend(argument, config_backend)
    if backend != "tensorflow" or wants_log or any(map(os.path.exists, _GPU_DEVICES)):
        import_keras_without_extras()
        return backend
    with without_gpu_complaints():
        import_keras_without_extras()
        # TensorFlow looks for GPUs when it is first asked for its devices, which would be in the middle of the work.
        sys.modules["tensorflow"].config.list_physical_devices()
    return backend


def prepare_backend(argument: str | None, config_backend: str | None) -> str:
    """Chooses the backend, and sets up what it shall find when it is imported; arguments and errors are those of `choose_backend`.

    For commands, which own their process.
    """
    backend = choose_backend(argument, config_backend)
    # TensorFlow's C++ greets with lines about instruction sets; whoever wants them sets the variable.
    os.environ.setdefault(LOG_VARIABLE, "2")
    use_wide_vectors()
    if backend == "jax":
        keep_compiled_functions(lambda line: print(f"electra-keras: {line}", file=sys.stderr))
    return backend


@contextlib.contextmanager
def without_gpu_complaints() -> Iterator[None]:
    """Keeps standard error, while the block lasts, in a file, and then shows it without TensorFlow's lines about a missing GPU.

    TF_CPP_MIN_LOG_LEVEL does not reach those that come before TensorFlow's log is set up. They come from C++, which writes to the
    descriptor and knows nothing of sys.stderr. Where there is no standard error, there is nothing to keep.
    """
    with contextlib.ExitStack() as stack:
        try:
            stderr = os.dup(2)
            stack.callback(os.close, stderr)
            kept = stack.enter_context(tempfile.TemporaryFile())
        except OSError:
            kept = None
        if kept is None:
            yield
            return
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            # Python's own stream may hold lines that are older than what follows.
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(stderr, 2)
            kept.seek(0)
            rest = b"".join(line for line in kept if not _GPU_COMPLAINT.match(line))
            # Nor has anybody to read it.
            with contextlib.suppress(OSError):
                os.write(2, rest)


def use_wide_vectors() -> None:
    """Has XLA compile for vectors of 512 bits where the processor has them: on JAX and TensorFlow it stops at 256 by itself.

    For commands, which own their process, before the backend is imported. Training steps on two cores with AVX-512 were 1.02 to 1.08 times
    as fast; sums round otherwise than in a script that leaves the flag unset. Whoever has set it, or has XLA read its flags from a file,
    keeps that.
    """
    flags = os.environ.get(XLA_VARIABLE, "")
    is_file = flags != "" and not flags.lstrip().startswith("-")
    if VECTOR_FLAG not in flags and not is_file:
        os.environ[XLA_VARIABLE] = f"{flags} {VECTOR_FLAG}=512".lstrip()


def import_keras_without_extras() -> None:
    """Imports keras without KERAS_EXTRAS, which take as long to import as keras itself with JAX (3.4 seconds together, 1.8 without).

    For commands, which own their process and hand keras neither estimators nor data frames, after the backend is chosen. What else wants
    these packages imports them later as ever; where one is loaded already, keras gets it.
    """
    hidden = [name for name in KERAS_EXTRAS if name not in sys.modules]
    # None stands for a package that is not installed, which is how keras takes them where they are not.
    sys.modules.update(dict.fromkeys(hidden))
    try:
        importlib.import_module("keras")
    finally:
        for name in hidden:
            del sys.modules[name]


def compute_in_asking_thread() -> None:
    """Has JAX compute on CPUs in the thread that calls a function, not in one of its own two, which take turns.

    For commands, which own their process, after the backend is chosen and before anything is computed. A step's memory then comes from one
    arena of malloc, and the next step's can be the same memory; from two it would be kept twice. Calls return when all is computed.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)


def keep_compiled_functions(report: Callable[[str], None]) -> pathlib.Path | None:
    """Has JAX keep what it compiles in the user's cache folder, so that the next command need not compile it again.

    For commands, which own their process, before JAX is imported. Whoever has set JAX_COMPILATION_CACHE_DIR keeps that folder, or none
    where it is empty.

    Args:
        report: is told when the folder cannot be used; the command then runs without one.

    Returns:
        The folder, or None where this function has set none.
    """
    if CACHE_VARIABLE in os.environ:
        return None
    try:
        folder = compilation_cache_folder()
        # Compiled functions are code that runs: nobody else may put any there.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as error:
        report(
            f"Compiled functions are not kept: {error}. Set XDG_CACHE_HOME to a folder that can be written, or {CACHE_VARIABLE}= for none."
        )
        return None
    os.environ[CACHE_VARIABLE] = os.fspath(folder)
    # JAX keeps by default only what took a second to compile, which most functions of small models do not.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MAX_CACHE_BYTES))
    return folder


def compilation_cache_folder() -> pathlib.Path:
    """Returns electra_keras/jax in XDG_CACHE_HOME, or in ~/.cache, and in there the processor's own folder.

    XLA compiles for the very processor, and what it compiled for one may end in an illegal instruction on another that has the same home.

    Raises:
        RuntimeError: the user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of the variable has relative paths ignored.
    root = pathlib.Path(base) if os.path.isabs(base) else pathlib.Path.home() / ".cache"
    return root / "electra_keras" / "jax" / f"{platform.machine()}-{_processor_fingerprint()}"


def _processor_fingerprint() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    # Linux calls the instruction sets "flags" on x86 and "Features" on ARM.
    features = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return hashlib.sha256(features.encode("utf-8")).hexdigest()[:12]


def is_installed(backend: str) -> bool:
    """Tells whether a backend's package can be found, without importing it: that would take seconds."""
    return importlib.util.find_spec(backend) is not None


def loaded_backend() -> str | None:
    """Returns the backend of the keras that this process has imported, or None."""
    keras = sys.modules.get("keras")
    return None if keras is None else keras.backend.backend()
