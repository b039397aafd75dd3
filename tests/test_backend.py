import contextlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import types

import pytest

from electra_keras import backend
from electra_keras.backend import (
    BACKENDS,
    choose_backend,
    compilation_cache_folder,
    import_keras_without_extras,
    is_installed,
    keep_compiled_functions,
    load_backend,
    loaded_backend,
    use_wide_vectors,
    without_gpu_complaints,
)
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


def test_keras_comes_without_its_extras_which_can_be_imported_later():
    script = (
        "import sys\n"
        "from electra_keras.backend import choose_backend, import_keras_without_extras, loaded_backend\n"
        "choose_backend('jax', None)\n"
        "import_keras_without_extras()\n"
        "print(loaded_backend(), sorted({'sklearn', 'pandas'} & sys.modules.keys()))\n"
        "import pandas, sklearn.metrics\n"
        "print(sklearn.metrics.roc_auc_score([0, 1, 1], [0.1, 0.9, 0.8]), len(pandas.DataFrame({'a': [1, 2]})))\n"
    )
    assert printed_by(script) == "jax []\n1.0 2\n"


def test_extras_that_are_loaded_stay_and_others_are_hidden_while_keras_is_imported_alone(monkeypatch):
    pandas, seen = types.ModuleType("pandas"), {}

    def fail(name):
        seen.update({extra: sys.modules.get(extra, "not hidden") for extra in ("pandas", "sklearn", "matplotlib")}, imported=name)
        raise ImportError("keras cannot be imported")

    monkeypatch.setitem(sys.modules, "pandas", pandas)
    for name in ("sklearn", "matplotlib"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(backend.importlib, "import_module", fail)
    with pytest.raises(ImportError, match="keras cannot"):
        import_keras_without_extras()
    assert seen == {"imported": "keras", "pandas": pandas, "sklearn": None, "matplotlib": None}
    assert sys.modules["pandas"] is pandas
    assert not {"sklearn", "matplotlib"} & sys.modules.keys()


CACHE_VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "JAX_COMPILATION_CACHE_MAX_SIZE")


@pytest.fixture
def no_cache_chosen(monkeypatch):
    for name in CACHE_VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_compiled_functions_go_to_the_users_cache_folder(monkeypatch, tmp_path, no_cache_chosen):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said = []
    folder = keep_compiled_functions(said.append)
    assert folder.parent == tmp_path / "cache" / "electra_keras" / "jax" and said == []
    assert folder.stat().st_mode & 0o777 == 0o700 and list(folder.iterdir()) == []
    assert [os.environ[name] for name in CACHE_VARIABLES] == [str(folder), "0", str(2 << 30)]
    # What the first call has set is now a choice like any other.
    assert keep_compiled_functions(said.append) is None


@pytest.mark.parametrize("base", [None, "", "relative/cache"])
def test_the_cache_folder_is_in_the_home_folder_by_default(monkeypatch, tmp_path, base):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", base or "")
    if base is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    assert compilation_cache_folder().parent == tmp_path / ".cache" / "electra_keras" / "jax"


def test_processors_have_folders_of_their_own(monkeypatch):
    folders = set()
    for flags in ("flags\t: fpu avx2", "flags\t: fpu avx2 avx512f", "Features\t: asimd", "no such line"):
        monkeypatch.setattr(pathlib.Path, "read_text", lambda self, encoding, flags=flags: f"processor\t: 0\n{flags}\n")
        folders |= {compilation_cache_folder(), compilation_cache_folder()}
    assert len(folders) == 4


@pytest.mark.parametrize("value", ["", "/some/where"])
def test_a_cache_that_the_user_has_chosen_stays(monkeypatch, tmp_path, value, no_cache_chosen):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", value)
    assert keep_compiled_functions(pytest.fail) is None
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == value and CACHE_VARIABLES[1] not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_cannot_be_written_is_said_and_not_used(monkeypatch, tmp_path, no_cache_chosen):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said = []
    assert keep_compiled_functions(said.append) is None
    assert len(said) == 1 and str(tmp_path / "file") in said[0] and "Set XDG_CACHE_HOME" in said[0]
    assert not set(CACHE_VARIABLES) & os.environ.keys()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "--xla_cpu_prefer_vector_width=512"),
        ("", "--xla_cpu_prefer_vector_width=512"),
        ("--xla_dump_to=x", "--xla_dump_to=x --xla_cpu_prefer_vector_width=512"),
        ("--xla_cpu_prefer_vector_width=128", "--xla_cpu_prefer_vector_width=128"),
        ("flags.txt", "flags.txt"),
    ],
)
def test_xla_is_asked_for_wide_vectors_unless_the_user_has_chosen(monkeypatch, before, after):
    monkeypatch.setenv("XLA_FLAGS", before or "")
    if before is None:
        monkeypatch.delenv("XLA_FLAGS")
    use_wide_vectors()
    assert os.environ["XLA_FLAGS"] == after


@pytest.mark.parametrize("settings", [[], ["electra_keras.backend.compute_in_asking_thread()"]], ids=["by itself", "asked to"])
def test_jax_computes_in_the_asking_thread_only_when_asked_to(settings):
    program = [
        "import jax, electra_keras.backend",
        *settings,
        "power = jax.jit(lambda matrix: jax.lax.fori_loop(0, 30, lambda _, product: product @ matrix, matrix))",
        "matrix = jax.numpy.eye(800)",
        "power(matrix).block_until_ready()",
        "print(power(matrix).is_ready())",
    ]
    assert printed_by("\n".join(program), JAX_PLATFORMS="cpu").strip() == str(bool(settings))


TENSORFLOW_LINES = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1795893207.589590   19416 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.",
    "E0000 00:00:1795893212.760372   19416 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error",
]


@pytest.mark.parametrize("fails", [False, True])
def test_complaints_about_a_missing_gpu_are_left_out_and_nothing_else(capfd, fails):
    lines = [TENSORFLOW_LINES[0], "E0000 00:00:1795893212.760372   19416 other.cc:5] a failure", *TENSORFLOW_LINES[1:], "no line break"]
    with contextlib.suppress(ImportError), without_gpu_complaints():
        os.write(2, "\n".join(lines).encode())
        if fails:
            raise ImportError("TensorFlow cannot be imported")
    os.write(2, b"; afterwards")
    assert capfd.readouterr().err == f"{lines[1]}\nno line break; afterwards"


def test_a_process_without_standard_error_has_nothing_to_leave_out():
    script = (
        "import os\n"
        "from electra_keras.backend import without_gpu_complaints\n"
        "os.close(2)\n"
        "with without_gpu_complaints():\n"
        "    print('done')\n"
    )
    assert printed_by(script) == "done\n"


@pytest.mark.parametrize(("level", "device", "shown"), [(None, False, []), ("0", False, TENSORFLOW_LINES), (None, True, TENSORFLOW_LINES)])
def test_tensorflow_is_quiet_unless_its_log_is_asked_for_or_a_gpu_is_there(monkeypatch, capfd, tmp_path, level, device, shown):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level or "")
    if level is None:
        monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(backend, "_GPU_DEVICES", (str(tmp_path if device else tmp_path / "absent"),))
    tensorflow = types.ModuleType("tensorflow")
    tensorflow.config = types.SimpleNamespace(list_physical_devices=lambda: os.write(2, f"{TENSORFLOW_LINES[2]}\n".encode()))
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)

    def import_keras():
        os.write(2, "".join(f"{line}\n" for line in TENSORFLOW_LINES[:2]).encode())
        if shown:
            tensorflow.config.list_physical_devices()

    monkeypatch.setattr(backend, "import_keras_without_extras", import_keras)
    assert load_backend("tensorflow", None) == "tensorflow"
    assert capfd.readouterr().err.splitlines() == shown
