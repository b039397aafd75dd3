"""Which GPU a benchmark says it ran on; without one there is nothing to say."""

import os
import pathlib

import pytest

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def accelerator(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import accelerator

    return accelerator


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts a program of that name before all others, which prints and ends as it is told."""

    def put(output, code=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nprintf '{output}'\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return put


def test_the_first_gpu_is_named_unless_it_is_hidden(accelerator, nvidia_smi, monkeypatch):
    nvidia_smi("NVIDIA H100 80GB HBM3\\nNVIDIA A100\\n")
    assert accelerator.name() == "NVIDIA H100 80GB HBM3"
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert accelerator.name() is None


def test_a_machine_without_a_driver_or_without_the_program_has_none(accelerator, nvidia_smi, monkeypatch):
    nvidia_smi("No devices were found\\n", code=6)
    assert accelerator.name() is None
    monkeypatch.setenv("PATH", "")
    assert accelerator.name() is None


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_on_a_cpu_there_is_no_memory_of_a_gpu(accelerator, library):
    module = pytest.importorskip(library)
    if module.cuda.is_available() if library == "torch" else module.default_backend() == "gpu":
        pytest.skip("this machine has a GPU")
    assert accelerator.peak_bytes(library) is None
