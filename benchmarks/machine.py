"""What a benchmark ran on, for the JSON beside its numbers."""

import importlib.metadata
import os
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

import accelerator

PACKAGES = ("keras", "jax", "tensorflow", "torch", "transformers", "tokenizers", "numpy")


def describe() -> dict:
    """Returns processor, cores, GPU, Python and the versions of the packages that decide the speed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "accelerator": accelerator.name(),
        "load_average_1m": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the names of what decides the speed and has changed between two descriptions: no table may mix such results."""
    return [name for name in ("processor", "cores", "accelerator", "versions") if before.get(name) != now[name]]


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    features = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} ({', '.join(features)})"
