"""The example script, run as a user would, on a small corpus."""

import importlib.util
import inspect
import pathlib
import re
import runpy

import numpy as np
import pytest
from witnesses.corpora import write_corpus

pytestmark = pytest.mark.backend

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "pretrain_from_script.py"


@pytest.fixture
def script(monkeypatch):
    # It names its configuration relative to the project.
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("pretrain_from_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_trains_and_validates(script, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.txt", documents=200)
    history = script.main(corpus, str(tmp_path / "data"), num_steps=2)
    assert {"loss", "generator_loss", "detection_loss", "val_detection_auc", "val_generator_loss"} <= history.keys()
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["one.txt", "two.txt"]])
def test_without_one_file_it_says_how_it_is_called(monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit, match=r"\.venv/bin/python examples/pretrain_from_script\.py my_text\.txt"):
        runpy.run_path(str(SCRIPT), run_name="__main__")


def test_its_data_does_not_lie_among_the_runs(script):
    assert pathlib.Path(inspect.signature(script.main).parameters["data_dir"].default).parts[0] != "runs"


def test_it_is_as_the_readme_has_it():
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(lines) <= 40
    assert f"is {len(lines)} lines" in readme
    (middle,) = re.findall(r"```python\n(data = prepare.*?)```", readme, re.DOTALL)
    # The README shows no validation; what it shows of the rest is the script's.
    shown = {line.removesuffix(")") for line in middle.splitlines()}
    script_text = "\n".join(lines)
    assert [line for line in sorted(shown) if line not in script_text] == []
