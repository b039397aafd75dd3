"""The GPU that engines compute on, where there is one: its name, and the most of its memory that a process has held.

Keras' backends and the loops around Hugging Face take the first NVIDIA GPU they see; an empty CUDA_VISIBLE_DEVICES hides it from all, and
they compute on the CPU. A library sees a GPU only in its build for CUDA, which requirements.txt does not ask for: an engine without it says
so and ends. In float32 a GPU is no fair comparison: JAX and TensorFlow round a product's operands to TF32 by default, and PyTorch does not.
"""

import os
import shutil
import subprocess

# Processes that take turns share the memory; by themselves JAX and TensorFlow would take nearly all of it as they start.
SHARED_MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def name() -> str | None:
    """Returns the model of the GPU that is to be computed on, or None where engines compute on the CPU.

    It is the first that CUDA_VISIBLE_DEVICES names by its number or its UUID, else the machine's first.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if visible in ("", "-1") or shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=index,uuid,name", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    # Without a driver it fails, and there is no GPU to compute on.
    if found.returncode != 0 or not found.stdout.strip():
        return None
    cards = [line.split(", ", 2) for line in found.stdout.splitlines()]
    return next((model for index, uuid, model in cards if visible == index or uuid.startswith(visible)), cards[0][2])


def check_use(library: str) -> None:
    """Makes sure that a library computes where the results will say that it has.

    Args:
        library: "jax", "tensorflow" or "torch".

    Raises:
        RuntimeError: the machine has a GPU and the library does not see it: its figures would be those of the CPU.
    """
    gpu = name()
    if gpu is not None and not sees_gpu(library):
        raise RuntimeError(
            f"This machine has a GPU, {gpu}, and {library} as it is installed here does not see it. Install its build for CUDA, or set "
            "CUDA_VISIBLE_DEVICES= (empty) to have all engines compute on the CPU."
        )


def sees_gpu(library: str) -> bool:
    """Tells whether "jax", "tensorflow" or "torch" computes on a GPU in this process."""
    match library:
        case "jax":
            import jax

            return jax.default_backend() == "gpu"
        case "tensorflow":
            import tensorflow as tf

            return bool(tf.config.list_physical_devices("GPU"))
        case _:
            import torch

            return torch.cuda.is_available()


def torch_device() -> str:
    """Returns where PyTorch computes, as Keras chooses it: "cuda" or "cpu"."""
    return "cuda" if sees_gpu("torch") else "cpu"


def peak_bytes(library: str) -> int | None:
    """Returns the most bytes that this process' arrays took at a time on the GPU, weights included; None on a CPU.

    Args:
        library: "jax", "tensorflow" or "torch".
    """
    if not sees_gpu(library):
        return None
    match library:
        case "jax":
            import jax

            statistics = jax.devices()[0].memory_stats()
            return statistics["peak_bytes_in_use"] if statistics else None
        case "tensorflow":
            import tensorflow as tf

            return tf.config.experimental.get_memory_info("GPU:0")["peak"]
        case _:
            import torch

            return torch.cuda.max_memory_allocated()
