import importlib.util
import os
import pathlib
import subprocess
import sys
import types

import pytest

from electra_keras import backend
from electra_keras.backend import BACKENDS, choose_backend, is_installed, loaded_backend
from electra_keras.errors import BackendError


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A process without keras and without KERAS_BACKEND, in which every backend is installed."""
    # Set before it is deleted, so that what choose_backend writes is undone as well.
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    install(monkeypatch, *BACKENDS)


def install(monkeypatch, *names):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        backend.importlib.util, "find_spec", lambda name: (object() if name in names else None) if name in BACKENDS else find_spec(name)
    )


def load_keras(monkeypatch, name):
    keras = types.ModuleType("keras")
    keras.backend = types.SimpleNamespace(backend=lambda: name)
    monkeypatch.setitem(sys.modules, "keras", keras)


def printed_by(script, **variables):
    """Returns what a Python process of its own prints, which must end well."""
    command, root = [sys.executable, "-c", script], pathlib.Path(__file__).parents[1]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment).stdout


@pytest.mark.parametrize(
    ("argument", "environment", "config", "expected"),
    [
        ("torch", "tensorflow", "jax", "torch"),
        (None, "tensorflow", "torch", "tensorflow"),
        (None, None, "torch", "torch"),
        (None, "", "torch", "torch"),
        (None, None, None, "jax"),
    ],
)
def test_argument_wins_over_environment_over_configuration(monkeypatch, argument, environment, config, expected):
    if environment is not None:
        monkeypatch.setenv("KERAS_BACKEND", environment)
    assert choose_backend(argument, config) == expected
    assert os.environ["KERAS_BACKEND"] == expected


@pytest.mark.parametrize(("name", "hint"), [("tensorfow", "Did you mean tensorflow?"), ("pytorch", "Did you mean torch?"), ("numpy", "")])
def test_an_unknown_backend_is_refused_with_its_source(monkeypatch, name, hint):
    with pytest.raises(BackendError, match=f"--backend is '{name}'; it must be one of jax, tensorflow, torch.") as error:
        choose_backend(name, None)
    assert str(error.value).endswith(hint) and ("Did you mean" in str(error.value)) == bool(hint)
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(BackendError, match=f"KERAS_BACKEND is '{name}'"):
        choose_backend(None, "jax")


@pytest.mark.parametrize(
    ("name", "remedy"), [("torch", "-r requirements-torch.txt"), ("jax", "-r requirements.txt"), ("tensorflow", "-r requirements.txt")]
)
def test_a_backend_that_is_not_installed_is_refused_with_the_command(monkeypatch, name, remedy):
    others = [other for other in BACKENDS if other != name]
    install(monkeypatch, *others)
    with pytest.raises(BackendError) as error:
        choose_backend(None, name)
    assert f"backend is {name}, which is not installed" in str(error.value) and remedy in str(error.value)
    assert ", ".join(others) in str(error.value)
    assert "KERAS_BACKEND" not in os.environ


def test_without_any_backend_there_is_none_to_choose_instead(monkeypatch):
    install(monkeypatch)
    with pytest.raises(BackendError) as error:
        choose_backend(None, None)
    assert "The default backend is jax, which is not installed" in str(error.value) and "another" not in str(error.value)


def test_a_loaded_keras_keeps_its_backend(monkeypatch):
    load_keras(monkeypatch, "torch")
    assert loaded_backend() == "torch"
    assert choose_backend(None, None) == "torch"
    assert choose_backend("torch", "jax") == "torch"
    monkeypatch.delenv("KERAS_BACKEND")
    with pytest.raises(BackendError, match="--backend is jax, but keras is already loaded with torch in this process"):
        choose_backend("jax", None)
    with pytest.raises(BackendError, match="The configuration's backend is tensorflow, but keras is already loaded with torch"):
        choose_backend(None, "tensorflow")


def test_a_package_is_found_without_importing_it(monkeypatch):
    monkeypatch.undo()
    assert not is_installed("a_package_that_does_not_exist")
    assert is_installed("json")


def test_importing_the_package_and_choosing_loads_no_backend():
    script = (
        "import sys, electra_keras, electra_keras.cli, electra_keras.detector\n"
        "from electra_keras.backend import choose_backend\n"
        "electra_keras.load_config, electra_keras.Config, electra_keras.Detector, electra_keras.__version__\n"
        "choose_backend('jax', None)\n"
        "print(sorted({'keras', 'jax', 'tensorflow', 'torch', 'keras_hub'} & sys.modules.keys()))\n"
    )
    assert printed_by(script) == "[]\n"
