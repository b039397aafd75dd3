"""Which GPU a benchmark says it ran on; without one there is nothing to say."""

import os
import pathlib

import pytest

TWO_CARDS = "0, GPU-cafe-01, NVIDIA H100 80GB HBM3\\n1, GPU-beef-02, NVIDIA A100, 40 GB\\n"
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
    nvidia_smi(TWO_CARDS)
    assert accelerator.name() == "NVIDIA H100 80GB HBM3"
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert accelerator.name() is None


@pytest.mark.parametrize("visible", ["1", "1,0", "GPU-beef", "GPU-beef-02,0"])
def test_of_several_gpus_the_visible_one_is_named(accelerator, nvidia_smi, monkeypatch, visible):
    nvidia_smi(TWO_CARDS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert accelerator.name() == "NVIDIA A100, 40 GB"


@pytest.mark.parametrize("library", ["jax", "tensorflow", "torch"])
def test_a_library_that_does_not_see_the_gpu_is_refused(accelerator, monkeypatch, library):
    monkeypatch.setattr(accelerator, "sees_gpu", lambda library: False)
    monkeypatch.setattr(accelerator, "name", lambda: "NVIDIA A100")
    with pytest.raises(RuntimeError, match=rf"NVIDIA A100, and {library} as it is installed here does not see it. Install"):
        accelerator.check_use(library)
    monkeypatch.setattr(accelerator, "name", lambda: None)
    accelerator.check_use(library)
    monkeypatch.setattr(accelerator, "name", lambda: "NVIDIA A100")
    monkeypatch.setattr(accelerator, "sees_gpu", lambda library: True)
    accelerator.check_use(library)


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
