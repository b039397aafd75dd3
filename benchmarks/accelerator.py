"""The GPU that engines compute on, where there is one: its name, and the most of its memory that a process has held.

Keras' backends and the loops around Hugging Face take the first NVIDIA GPU they see; an empty CUDA_VISIBLE_DEVICES hides it from all, and
they compute on the CPU. In float32 a GPU is no fair comparison: JAX and TensorFlow round a product's operands to TF32 by default, and
PyTorch does not.
"""

import os
import shutil
import subprocess

# Processes that take turns share the memory; by themselves JAX and TensorFlow would take nearly all of it as they start.
SHARED_MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}


def name() -> str | None:
    """Returns the model of the first GPU, or None where engines compute on the CPU."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1") or shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    # Without a driver it fails, and there is no GPU to compute on.
    return found.stdout.splitlines()[0].strip() if found.returncode == 0 and found.stdout.strip() else None


def torch_device() -> str:
    """Returns where PyTorch computes, as Keras chooses it: "cuda" or "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def peak_bytes(library: str) -> int | None:
    """Returns the most bytes that this process' arrays took at a time on the GPU, weights included; None on a CPU.

    Args:
        library: "jax", "tensorflow" or "torch".
    """
    match library:
        case "jax":
            import jax

            statistics = jax.devices()[0].memory_stats()
            return statistics["peak_bytes_in_use"] if statistics and jax.default_backend() == "gpu" else None
        case "tensorflow":
            import tensorflow as tf

            gpus = tf.config.list_physical_devices("GPU")
            return tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else None
        case _:
            import torch

            return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
