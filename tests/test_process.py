import os
import pathlib
import subprocess
import sys
import types

import pytest

from electra_keras import process
from electra_keras.process import compilation_cache_folder, import_keras_without_extras, keep_compiled_functions, use_wide_vectors


def printed_by(script, **variables):
    """Returns what a Python process of its own prints, which must end well."""
    command, root = [sys.executable, "-c", script], pathlib.Path(__file__).parents[1]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=environment).stdout


def test_keras_comes_without_its_extras_which_can_be_imported_later():
    script = (
        "import sys\n"
        "from electra_keras.backend import choose_backend, loaded_backend\n"
        "from electra_keras.process import import_keras_without_extras\n"
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

    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    for name in ("sklearn", "matplotlib"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(process.importlib, "import_module", fail)
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


@pytest.mark.parametrize("settings", [[], ["electra_keras.process.compute_in_asking_thread()"]], ids=["by itself", "asked to"])
def test_jax_computes_in_the_asking_thread_only_when_asked_to(settings):
    program = [
        "import jax, electra_keras.process",
        *settings,
        "power = jax.jit(lambda matrix: jax.lax.fori_loop(0, 30, lambda _, product: product @ matrix, matrix))",
        "matrix = jax.numpy.eye(800)",
        "power(matrix).block_until_ready()",
        "print(power(matrix).is_ready())",
    ]
    assert printed_by("\n".join(program), JAX_PLATFORMS="cpu").strip() == str(bool(settings))
