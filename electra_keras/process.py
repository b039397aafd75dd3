"""What commands set up for the backend before they work: their process is theirs, which a library's caller is not.

These set variables of the environment and switches of libraries for as long as the process lives: for commands, benchmarks and tests.
"""

import hashlib
import importlib
import os
import pathlib
import platform
import sys
import tempfile
from collections.abc import Callable

from electra_keras.backend import choose_backend

CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
XLA_VARIABLE = "XLA_FLAGS"
VECTOR_FLAG = "--xla_cpu_prefer_vector_width"
KERAS_EXTRAS = ("sklearn", "matplotlib", "pandas")
"""What keras imports along, where it is installed, for wrappers, pictures and data frames of its own."""
# Beyond that, JAX drops what was used longest ago.
MAX_CACHE_BYTES = 2 * 1024**3


def load_backend(argument: str | None, config_backend: str | None) -> str:
    """Prepares the backend as `prepare_backend` does, and imports keras with it.

    For commands that compute; the others may need no keras, or have it on a backend that they choose.

    Returns:
        One of BACKENDS.

    Raises:
        BackendError: as `choose_backend`.
    """
    backend = prepare_backend(argument, config_backend)
    import_keras_without_extras()
    return backend


def prepare_backend(argument: str | None, config_backend: str | None) -> str:
    """Chooses the backend, and sets up what it shall find when it is imported; arguments and errors are those of `choose_backend`."""
    backend = choose_backend(argument, config_backend)
    # TensorFlow's C++ greets with lines about instruction sets; whoever wants them sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    use_wide_vectors()
    if backend == "jax":
        keep_compiled_functions(lambda line: print(f"electra-keras: {line}", file=sys.stderr))
    return backend


def use_wide_vectors() -> None:
    """Has XLA compile for vectors of 512 bits where the processor has them: on JAX and TensorFlow it stops at 256 by itself.

    To be called before the backend is imported. Training steps on two cores with AVX-512 were 1.02 to 1.08 times as fast; sums round
    otherwise than in a script that leaves the flag unset. Whoever has set it, or has XLA read its flags from a file, keeps that.
    """
    flags = os.environ.get(XLA_VARIABLE, "")
    is_file = flags != "" and not flags.lstrip().startswith("-")
    if VECTOR_FLAG not in flags and not is_file:
        os.environ[XLA_VARIABLE] = f"{flags} {VECTOR_FLAG}=512".lstrip()


def import_keras_without_extras() -> None:
    """Imports keras without KERAS_EXTRAS, which take as long to import as keras itself with JAX (3.4 seconds together, 1.8 without).

    No command hands keras estimators or data frames. To be called after the backend is chosen. What else wants these packages imports them
    later as ever; where one is loaded already, keras gets it.
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

    To be called after the backend is chosen and before anything is computed. A step's memory then comes from one arena of malloc, and the
    next step's can be the same memory; from two it would be kept twice. Calls return when all is computed.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)


def keep_compiled_functions(report: Callable[[str], None]) -> pathlib.Path | None:
    """Has JAX keep what it compiles in the user's cache folder, so that the next command need not compile it again.

    To be called before JAX is imported. Whoever has set JAX_COMPILATION_CACHE_DIR keeps that folder, or none where it is empty.

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
