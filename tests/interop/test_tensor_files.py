"""Weights in several files: what transformers saves and opens, and what is wrong with others."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file
from witnesses.electra_in_huggingface import SHAPES, build_pair, save
from witnesses.weights_in_parts import PARTS, split_weights

from electra_keras.errors import UserError
from electra_keras.interop.huggingface import read_encoder
from electra_keras.interop.importing import import_run

SMALL = SHAPES["narrow embeddings, 3 heads"]
QUERY = "electra.encoder.layer.1.attention.self.query.weight"


def assert_same_weights(folder, model, tmp_path):
    expected = read_encoder(save(model, tmp_path / "whole")).weights
    found = read_encoder(folder).weights
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_parts_that_transformers_saved_are_read(tmp_path):
    model = build_pair(SMALL)[0]
    folder = save(model, tmp_path / "theirs")
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="4KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1 and not (folder / "model.safetensors").exists()
    assert_same_weights(folder, model, tmp_path)


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_parts_of_both_kinds_are_read(tmp_path, kind):
    model = build_pair(SMALL)[0]
    folder = save(model, tmp_path / "theirs")
    split_weights(folder, kind)
    if kind == "safetensors":
        # The parts are such as transformers opens.
        _, info = transformers.ElectraForPreTraining.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values())
    assert_same_weights(folder, model, tmp_path)


def test_one_whole_file_wins_over_parts(tmp_path):
    model = build_pair(SMALL)[0]
    folder = save(model, tmp_path / "theirs")
    (folder / "model.safetensors.index.json").write_text("not read")
    assert_same_weights(folder, model, tmp_path)


def change_map(change):
    def damage(index):
        content = json.loads(index.read_text())
        change(content["weight_map"])
        index.write_text(json.dumps(content))

    return damage


def part(index, number):
    return index.with_name(f"model-{number:05}-of-{PARTS:05}.safetensors")


def file_with(index, tensor):
    return index.with_name(json.loads(index.read_text())["weight_map"][tensor])


def rename_tensor(index):
    path = file_with(index, QUERY)
    arrays = load_file(path)
    arrays["classifier.weight"] = arrays.pop(QUERY)
    save_file(arrays, path)


def drop_from_both(index):
    path = file_with(index, QUERY)
    arrays = load_file(path)
    del arrays[QUERY]
    save_file(arrays, path)
    change_map(lambda places: places.pop(QUERY))(index)


def cut_part(index):
    path = part(index, 2)
    path.write_bytes(path.read_bytes()[:-100])


BAD = [
    (lambda index: part(index, 2).unlink(), "names model-00002-of-00003.safetensors, which is not there"),
    (cut_part, "model-00002-of-00003.safetensors cannot be read as safetensors"),
    (rename_tensor, f"does not hold the tensors that model.safetensors.index.json says: missing: {QUERY}; left over: classifier.weight"),
    (drop_from_both, f"does not hold the weights of the ELECTRA it is said to hold: missing: {QUERY}"),
    (change_map(lambda places: places.update({QUERY: "../other/model.safetensors"})), "which is no file beside it"),
    (change_map(lambda places: places.update({QUERY: "/etc/passwd"})), "which is no file beside it"),
    (change_map(lambda places: places.update({QUERY: ""})), "which is no file beside it"),
    (change_map(lambda places: places.update({QUERY: 3})), "names 3, which is no file beside it"),
    (change_map(lambda places: places.clear()), "holds no weight_map"),
    (lambda index: index.write_text("{"), "cannot be read as JSON"),
    (lambda index: index.write_text("[]"), "is no JSON object"),
]


@pytest.mark.parametrize(("damage", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_parts_are_one_error_and_leave_nothing(tmp_path, damage, message):
    folder = save(build_pair(SMALL)[0], tmp_path / "theirs")
    damage(split_weights(folder, "safetensors"))
    with pytest.raises(UserError, match=message) as caught:
        import_run(folder, tmp_path / "run", report=lambda line: None)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_a_program_in_a_part_is_never_run(tmp_path):
    class Program:
        def __reduce__(self):
            return (open, (str(tmp_path / "it-ran"), "w"))

    folder = save(build_pair(SMALL)[0], tmp_path / "theirs")
    index = split_weights(folder, "bin")
    torch.save({QUERY: Program()}, file_with(index, QUERY))
    with pytest.raises(UserError, match="a pickle that wants to run code, which is never done"):
        import_run(folder, tmp_path / "run", report=lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
