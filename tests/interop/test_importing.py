"""What becomes of an imported model: pairs, the hub, and the commands that go on from it."""

import dataclasses
import fnmatch
import json
import shutil

import numpy as np
import pytest
from huggingface_hub.errors import HTTPError
from witnesses.electra_in_huggingface import SHAPES, build_pair, save, save_pair
from witnesses.weights_in_parts import PARTS, split_weights

from electra_keras.artifacts import RunDirectory
from electra_keras.cli import main
from electra_keras.errors import UserError
from electra_keras.interop import hub
from electra_keras.interop.importing import import_run, read_pretrained
from electra_keras.interop.pretrained import fraction_between
from electra_keras.interop.sharing import build_model_folder

SMALL = SHAPES["narrow embeddings, 3 heads"]


def silent(line):
    pass


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    save_pair(SMALL, folder)
    return folder


@pytest.mark.parametrize(
    ("small", "full", "expected"),
    [
        ({"hidden": 256, "heads": 4, "wide": 1024}, {"hidden": 768, "heads": 12, "wide": 3072}, 1 / 3),
        ({"hidden": 64, "heads": 1, "wide": 256}, {"hidden": 256, "heads": 4, "wide": 1024}, 0.25),
        ({"hidden": 12, "heads": 3, "wide": 20}, {"hidden": 12, "heads": 3, "wide": 20}, 1.0),
        ({"hidden": 64, "heads": 4, "wide": 256}, {"hidden": 256, "heads": 4, "wide": 1024}, None),
        ({"hidden": 512}, {"hidden": 256}, None),
    ],
)
def test_fractions(small, full, expected):
    assert fraction_between(small, full) == expected


def test_fractions_that_are_no_exact_ratio_are_found():
    small, full = {"hidden": 8, "heads": 2, "wide": 13}, {"hidden": 12, "heads": 3, "wide": 20}
    fraction = fraction_between(small, full)
    assert {name: round(size * fraction) for name, size in full.items()} == small


def test_a_generator_may_lie_apart(tmp_path, theirs):
    shutil.copytree(theirs / "discriminator", tmp_path / "one")
    run = import_run(tmp_path / "one", tmp_path / "run", generator_from=theirs / "generator", report=silent)
    assert run.description["missing"] == [] and run.description["source"] == "one"
    with pytest.raises(UserError, match="one holds no generator"):
        import_run(tmp_path / "one", tmp_path / "other", generator_from=tmp_path / "one", report=silent)


def test_no_path_of_this_machine_is_written(tmp_path, theirs):
    run = import_run(theirs, tmp_path / "run", report=silent)
    for name in ("config.yaml", "run.json", "tokenizer_config.json"):
        assert str(tmp_path) not in (run.path / name).read_text() and str(theirs.parent) not in (run.path / name).read_text()


def test_pairs_that_do_not_belong_together_are_refused(tmp_path, theirs):
    other = save(build_pair(SMALL)[1], tmp_path / "cased", lowercase=False)
    with pytest.raises(UserError, match="have different vocabularies"):
        read_pretrained(theirs, generator_from=other)
    deeper = build_pair(dataclasses.replace(SMALL, generator_hidden=24))[1]
    with pytest.raises(UserError, match=r"hidden_dim 24.* is no fraction of the discriminator .*hidden_dim 12"):
        read_pretrained(theirs, generator_from=save(deeper, tmp_path / "wider"))
    (tmp_path / "two" / "generator").mkdir(parents=True)
    for role in ("discriminator", "generator"):
        shutil.copytree(theirs / "discriminator", tmp_path / "two" / role, dirs_exist_ok=True)
    with pytest.raises(UserError, match="both hold a discriminator"):
        read_pretrained(tmp_path / "two")


@pytest.mark.parametrize("make", [lambda folder: folder.mkdir(), lambda folder: None])
def test_a_folder_without_a_model_is_refused(tmp_path, make):
    make(tmp_path / "empty")
    with pytest.raises(UserError, match=r"empty holds no model: neither a config.json|There is no .*empty. Give a folder"):
        import_run(tmp_path / "empty", tmp_path / "run", report=silent)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_imported_again(tmp_path, theirs):
    import_run(theirs, tmp_path / "run", report=silent)
    with pytest.raises(UserError, match="is a run directory already"):
        import_run(tmp_path / "run", tmp_path / "again", report=silent)


def test_hub_ids_are_told_from_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.is_hub_id("google/electra-small-discriminator")
    (tmp_path / "runs").mkdir()
    assert not any(map(hub.is_hub_id, ["runs/absent", "absent", "/tmp/absent", "./a/b", "a/b/c", "../a", "a/"]))


class FakeHub:
    """A repository whose files lie in a folder; counts what is fetched."""

    def __init__(self, folder, cache):
        self.folder, self.cache, self.fetched = folder, cache, []

    def snapshot_download(self, repository, allow_patterns):
        assert repository == "google/electra-tiny"
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns):
                (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.cache / name)
                self.fetched.append(name)
        return str(self.cache)


def test_a_model_on_the_hub_is_fetched_without_copies_of_its_weights(tmp_path, theirs, monkeypatch):
    repository = shutil.copytree(theirs / "discriminator", tmp_path / "repository")
    for name in ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack"):
        (repository / name).write_bytes(b"a copy")
    fake = FakeHub(repository, tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake.snapshot_download)
    run = import_run("google/electra-tiny", tmp_path / "run", report=silent)
    assert run.description["source"] == "google/electra-tiny"
    assert sorted(fake.fetched) == ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_model_in_parts_on_the_hub_is_fetched_whole(tmp_path, theirs, monkeypatch, kind):
    repository = shutil.copytree(theirs / "discriminator", tmp_path / "repository")
    split_weights(repository, kind)
    fake = FakeHub(repository, tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake.snapshot_download)
    run = import_run("google/electra-tiny", tmp_path / "run", report=silent)
    whole = import_run(theirs / "discriminator", tmp_path / "whole", report=silent)
    for name, array in whole.final_weights().items():
        np.testing.assert_array_equal(run.final_weights()[name], array, err_msg=name)
    assert sum(name.endswith((".index.json", f".{kind}")) for name in fake.fetched) == 1 + PARTS


def test_a_pair_on_the_hub_is_detected_with_and_imported(tmp_path, theirs, monkeypatch):
    """As `electra-keras push` leaves it: a folder for each encoder, and the card beside them."""
    import_run(theirs, tmp_path / "mine", report=silent)
    build_model_folder(tmp_path / "mine", tmp_path / "repository")
    fake = FakeHub(tmp_path / "repository", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake.snapshot_download)
    run = import_run("google/electra-tiny", tmp_path / "run", report=silent)
    assert run.description["missing"] == [] and "README.md" not in fake.fetched
    assert read_pretrained("google/electra-tiny", only="discriminator").missing == ("generator",)


@pytest.fixture
def headless(tmp_path, theirs):
    """A run whose discriminator has no head, pushed: of its models there is encoder/ alone."""
    transformers = pytest.importorskip("transformers")
    shutil.copytree(theirs / "discriminator", tmp_path / "model")
    transformers.ElectraModel.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "model")
    import_run(tmp_path / "model", tmp_path / "bare", report=silent)
    return build_model_folder(tmp_path / "bare", tmp_path / "repository")


def test_an_encoder_without_a_head_is_imported_as_its_card_says(tmp_path, headless):
    assert sorted(path.name for path in headless.iterdir()) == ["README.md", "encoder"]
    run = import_run(headless, tmp_path / "run", report=silent)
    assert run.description["missing"] == ["detection head", "generator"]
    expected = RunDirectory.open(tmp_path / "bare").final_weights()
    assert all((run.final_weights()[name] == array).all() for name, array in expected.items())


def test_an_encoder_is_fetched_from_the_hub_where_it_is_alone(tmp_path, theirs, headless, monkeypatch):
    fake = FakeHub(headless, tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake.snapshot_download)
    assert import_run("google/electra-tiny", tmp_path / "run", report=silent).description["missing"] == ["detection head", "generator"]
    import_run(theirs, tmp_path / "mine", report=silent)
    whole = FakeHub(build_model_folder(tmp_path / "mine", tmp_path / "whole"), tmp_path / "other_cache")
    monkeypatch.setattr("huggingface_hub.snapshot_download", whole.snapshot_download)
    read_pretrained("google/electra-tiny")
    # Beside a discriminator it would be the same weights once more.
    weights = [name for name in whole.fetched if name.endswith(".safetensors")]
    assert weights == ["discriminator/model.safetensors", "generator/model.safetensors"]


def test_without_a_network_there_is_one_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    assert main(["import", "--from", "google/electra-tiny", "--run_dir", "run"]) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert "Cannot fetch google/electra-tiny from the Hugging Face hub" in output.err and "Check the name and the network" in output.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [HTTPError("peer closed connection"), OSError("404 Client Error\nmore"), ValueError("bad name")])
def test_a_download_that_breaks_is_one_error(tmp_path, monkeypatch, error):
    def broken(repository, allow_patterns):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    with pytest.raises(UserError, match=r"Cannot fetch google/electra-tiny .*(peer|404|bad)") as caught:
        import_run("google/electra-tiny", tmp_path / "run", report=silent)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_the_commands(tmp_path, theirs, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["import", "--from", str(theirs), "--run_dir", "run"]) == 0
    assert capsys.readouterr().out.startswith(f"Imported {theirs} to run: 2 layers of 12, 3 heads, 11 entries.")
    assert main(["export", "--run_dir", "run", "--to", "huggingface", "--out_dir", "out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Exported run to out." and "transformers.ElectraForPreTraining.from_pretrained" in lines[1]
    assert json.loads((tmp_path / "out" / "generator" / "config.json").read_text())["architectures"] == ["ElectraForMaskedLM"]
    assert main(["import", "--from", "out", "--run_dir", "alone", "--only", "discriminator"]) == 0
    assert "Import it again with --generator_from." in capsys.readouterr().out
    assert main(["export", "--run_dir", "run", "--to", "onnxx", "--out_dir", "out2"]) == 2
    assert main(["export", "--run_dir", "absent", "--to", "huggingface", "--out_dir", "out2"]) == 2
    assert "There is no run directory absent" in capsys.readouterr().err
