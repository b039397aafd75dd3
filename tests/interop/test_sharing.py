"""The uploaded folder and its card, without a network: a fake HfApi, and the hub's client told to stay offline."""

import dataclasses
import json
import pathlib

import pytest
import transformers
import yaml
from huggingface_hub.errors import HTTPError
from witnesses.electra_in_huggingface import SHAPES, save_pair
from witnesses.tiny import tiny_config

from electra_keras.artifacts import RunDirectory
from electra_keras.cli import main
from electra_keras.config import CorpusConfig
from electra_keras.errors import UserError
from electra_keras.files import write_json
from electra_keras.interop import sharing
from electra_keras.interop.importing import import_run, read_encoders
from electra_keras.interop.sharing import build_model_folder, push_run

SMALL = SHAPES["narrow embeddings, 3 heads"]


def silent(line):
    pass


@pytest.fixture
def imported(tmp_path):
    save_pair(SMALL, tmp_path / "theirs")
    return import_run(tmp_path / "theirs", tmp_path / "imported", report=silent)


@pytest.fixture
def trained(tmp_path, imported):
    """A run as training leaves it: imported weights under a configuration of its own, and two validations."""
    corpus = CorpusConfig(files=[str(tmp_path / "secret" / "novels.txt")])
    training = dataclasses.replace(tiny_config().training, num_steps=50, batch_size=4)
    config = dataclasses.replace(imported.config, corpus=corpus, training=training)
    run = RunDirectory.create(tmp_path / "trained", config, imported.tokenizer(), {"kind": "pretraining", "data": "0" * 64})
    run.append_metrics({"step": 25, "val_detection_auc": 0.5, "val_generator_loss": 9.0})
    run.append_metrics({"step": 50, "generator_loss": 7.0})
    run.append_metrics({"step": 50, "val_detection_auc": 0.76543, "val_generator_loss": 6.5})
    run.finish(imported.final_weights())
    return run


def card_of(folder):
    """Returns the header as a dictionary, and the text behind it."""
    empty, header, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(header), text


def card_of_corpus(run, tmp_path, corpus):
    """Returns the card of a run as it would be with another corpus."""
    weights = run.final_weights()
    run.reopen(dataclasses.replace(run.config, corpus=corpus))
    run.finish(weights)
    return card_of(build_model_folder(run.path, tmp_path / "model"))


def shown_config(text):
    return yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])


def test_the_folder_opens_in_transformers_and_here(tmp_path, trained):
    folder = build_model_folder(trained.path, tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "discriminator", "encoder", "generator"]
    _, info = transformers.ElectraForPreTraining.from_pretrained(folder, subfolder="discriminator", output_loading_info=True)
    assert not any(info.values()), info
    assert {encoder.role for encoder in read_encoders(folder)} == {"discriminator", "generator"}


def test_the_card_says_what_the_run_knows(tmp_path, trained):
    header, text = card_of(build_model_folder(trained.path, tmp_path / "model", license="cc-by-sa-4.0", repository="me/mine"))
    assert header == {
        "license": "cc-by-sa-4.0",
        "library_name": "transformers",
        "tags": ["electra", "replaced-token-detection", "electra_keras"],
    }
    length = trained.config.packing.sequence_length
    for expected in (
        "# mine\n",
        f"- tokens seen: {50 * 4 * length:,} at most (50 steps of 4 sequences of {length} tokens",
        "Files of the owner's: novels.txt.",
        "Licence of the data: cc-by-sa-4.0.",
        "after step 50:",
        "| detection_auc | 0.7654 |",
        "| discriminator | 2 | 12 | 3 | 20 | 6 | 16 | 11 |",
        'ElectraForPreTraining.from_pretrained("me/mine", subfolder="discriminator")',
        'Detector.load("me/mine")',
    ):
        assert expected in text, expected
    assert "9.0" not in text.split("## Metrics")[1].split("## Configuration")[0]
    shown = shown_config(text)
    assert shown["model"]["num_layers"] == 2 and shown["corpus"]["files"] == ["novels.txt"]


def test_no_path_of_this_machine_gets_out(tmp_path, trained):
    folder = build_model_folder(trained.path, tmp_path / "model")
    for path in folder.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


def test_what_is_not_given_is_unknown(tmp_path, trained):
    header, text = card_of(build_model_folder(trained.path, tmp_path / "model"))
    assert header["license"] == "unknown" and "Licence of the data: unknown." in text


def test_a_license_in_words_and_a_description_are_taken_over(tmp_path, trained):
    header, text = card_of(
        build_model_folder(trained.path, tmp_path / "model", license="Ours: ask first", data_description="Novels of 1900 to 1920.")
    )
    assert (header["license"], header["license_name"]) == ("other", "Ours: ask first")
    assert "Novels of 1900 to 1920.\n\nLicence of the data: Ours: ask first." in text and "Files of the owner's" not in text


def test_an_imported_run_claims_no_training(tmp_path, imported):
    _, text = card_of(build_model_folder(imported.path, tmp_path / "model"))
    assert "imported by electra_keras from theirs" in text and "not known here" in text and "None were recorded." in text
    assert "tokens seen:" not in text and "docstrings" not in text and "training:" not in text


def test_an_unfinished_run_says_so(tmp_path, trained):
    trained.reopen(trained.config)
    trained.save_checkpoint(20, RunDirectory.open(tmp_path / "imported").final_weights(), {}, keep=1)
    _, text = card_of(build_model_folder(trained.path, tmp_path / "model"))
    assert "optimizer steps: 20 of 50 planned; this is a checkpoint" in text


@pytest.mark.parametrize("corpus", [CorpusConfig(hub="a/b:c"), CorpusConfig(builtin_packages=["numpy"])])
def test_other_corpora_are_named(tmp_path, trained, corpus):
    _, text = card_of_corpus(trained, tmp_path, corpus)
    assert ("data set a/b:c of the Hugging Face hub" if corpus.hub else "standard library and of numpy.") in text


@pytest.mark.parametrize("configuration", ["", ":small"])
@pytest.mark.parametrize(
    "hub", ["{folder}/secret/novels", "{folder}/secret/novels/", "secret/deep/novels", "./secret/novels", "here/novels"]
)
def test_a_data_set_of_this_machine_is_named_without_its_place(tmp_path, monkeypatch, trained, hub, configuration):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    _, text = card_of_corpus(trained, tmp_path, CorpusConfig(hub=hub.format(folder=tmp_path) + configuration))
    name = f"novels{configuration}"
    assert f"A local data set ({name}), split train." in text and "Hugging Face hub" not in text
    assert shown_config(text)["corpus"]["hub"] == f"a local data set ({name})"
    assert "secret" not in text and "here/" not in text and str(tmp_path) not in text


@pytest.mark.parametrize(("content", "local"), [({"train.parquet": "0"}, True), ("a fingerprint", False)])
def test_the_prepared_data_tells_a_folder_that_is_gone_from_the_hub(tmp_path, trained, content, local):
    trained.data_path.mkdir()
    manifest = {"format_version": 1, "input_hash": "0" * 64, "sequence_length": 8, "tokenizer_fingerprint": ""}
    inputs = {"corpus": {"kind": "hub", "content": content}}
    write_json(trained.data_path / "manifest.json", {**manifest, "inputs": inputs, "splits": {"train": {}, "validation": {}}})
    _, text = card_of_corpus(trained, tmp_path, CorpusConfig(hub="secret/novels:small"))
    assert ("A local data set (novels:small), split train." in text) == local == ("secret" not in text)
    assert shown_config(text)["corpus"]["hub"] == ("a local data set (novels:small)" if local else "secret/novels:small")


def test_a_folder_in_use_is_left_alone(tmp_path, trained):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        build_model_folder(trained.path, tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]


class FakeApi:
    """Records what the hub is asked for, and what lies in the folder at that moment."""

    def __init__(self, error=None):
        self.calls, self.files, self.error = [], [], error

    def create_repo(self, repo_id, **settings):
        if self.error:
            raise self.error
        self.calls.append(("create_repo", repo_id, settings))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, **settings):
        self.calls.append(("upload_folder", repo_id, settings))
        self.files = sorted(path.relative_to(folder_path).as_posix() for path in pathlib.Path(folder_path).rglob("*") if path.is_file())
        self.config = json.loads((pathlib.Path(folder_path) / "discriminator" / "config.json").read_text())


@pytest.mark.parametrize("private", [True, False])
def test_push_makes_the_repository_and_uploads_the_folder(trained, private):
    api, lines = FakeApi(), []
    push_run(trained.path, "me/mine", private=private, license="mit", api=api, report=lines.append)
    assert api.calls == [
        ("create_repo", "me/mine", {"private": private, "exist_ok": True}),
        ("upload_folder", "me/mine", {"commit_message": "Upload by electra-keras push"}),
    ]
    assert {"README.md", "discriminator/model.safetensors", "generator/config.json", "encoder/vocab.txt"} <= set(api.files)
    assert api.config["architectures"] == ["ElectraForPreTraining"]
    assert lines == [f"Uploaded {trained.path} to https://huggingface.co/me/mine."]


def test_push_reminds_of_the_license(trained):
    lines = []
    push_run(trained.path, "me/mine", api=FakeApi(), report=lines.append)
    assert "licence of the data is unknown; name it with --license" in lines[1]


@pytest.mark.parametrize("error", [HTTPError("Name or service not known"), OSError("\n\nToken is required"), ValueError("bad name")])
def test_no_network_and_no_token_are_one_clear_error(trained, error):
    with pytest.raises(UserError, match=r"Cannot upload to me/mine \(\w+: (Name|Token|bad).*hf auth login") as caught:
        push_run(trained.path, "me/mine", api=FakeApi(error), report=silent)
    assert "\n" not in str(caught.value)


def test_the_real_client_without_network_is_one_clear_error(trained):
    import huggingface_hub

    # A port on which nothing listens.
    api = huggingface_hub.HfApi(endpoint="http://127.0.0.1:9", token="hf_none")
    with pytest.raises(UserError, match="Cannot upload to me/mine"):
        push_run(trained.path, "me/mine", api=api, report=silent)


@pytest.mark.parametrize("name", ["mine", "me/mine/more", "me/", "../mine", "me/mi ne"])
def test_a_name_that_is_none_is_refused_before_anything_is_built(tmp_path, name):
    with pytest.raises(UserError, match="must be OWNER/NAME"):
        push_run(tmp_path / "nowhere", name, api=FakeApi(), report=silent)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"private": False, "license": "unknown", "data_description": None}),
        (
            ["--private", "--license", "mit", "--data_description", "Old novels."],
            {"private": True, "license": "mit", "data_description": "Old novels."},
        ),
    ],
)
def test_the_command_line_hands_its_options_on(tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("runs/demo").mkdir(parents=True)
    calls = []
    monkeypatch.setattr(sharing, "push_run", lambda *names, **settings: calls.append((names, settings)))
    assert main(["push", "--run_dir", "demo", "--repo", "me/mine", *words]) == 0
    assert calls == [((pathlib.Path("runs/demo"), "me/mine"), expected)]


def test_an_empty_license_is_refused(capsys):
    assert main(["push", "--run_dir", "runs/demo", "--repo", "me/mine", "--license", " "]) == 2
    assert "--license is empty" in capsys.readouterr().err
