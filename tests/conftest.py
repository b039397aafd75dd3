"""Settings that must be made before a backend is loaded."""

import os
import pathlib
import tempfile

from electra_keras.process import XLA_VARIABLE, use_wide_vectors

# As commands do: what a test trains in its own process and what a command trains are compared to the last bit.
use_wide_vectors()
# Where it names a file, there is no adding to it.
if os.environ.get("KERAS_BACKEND") == "tensorflow" and os.environ[XLA_VARIABLE].startswith("-"):
    # Each of the many tiny trainings is compiled anew, and LLVM's optimization of that is half of their time.
    os.environ[XLA_VARIABLE] += " --xla_backend_optimization_level=0"
# Two test processes on two cores: more threads each would only wait for one another.
for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Values are compared to digits that a GPU's products do not have, and to the last bit; name a GPU here to test on it all the same.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# The same tiny steps are compiled again and again; JAX can keep them.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "electra-keras-tests-jax-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

pytest_plugins = ["witnesses.runs"]
