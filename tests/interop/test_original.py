"""Checkpoints as the original's code writes them: its variable names, Adam's moments, TensorFlow 1's saver."""

import json
import pathlib

import numpy as np
import pytest
from witnesses.electra_in_huggingface import POSITIONS, vocabulary

from electra_keras.errors import UserError
from electra_keras.interop.importing import import_run
from electra_keras.interop.original import find_checkpoint

VOCAB_SIZE = 13


def silent(line):
    pass


def dense(name, inputs, outputs):
    return {f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)}


def norm(name, width):
    return {f"{name}/beta": (width,), f"{name}/gamma": (width,)}


def embedding_variables(scope, width):
    rows = {"word": VOCAB_SIZE, "position": POSITIONS, "token_type": 2}
    return {f"{scope}/embeddings/{name}_embeddings": (count, width) for name, count in rows.items()} | norm(
        f"{scope}/embeddings/LayerNorm", width
    )


def encoder_variables(scope, layers, width, wide, embedding_width):
    """The variables of modeling.BertModel in a scope."""
    variables = {} if width == embedding_width else dense(f"{scope}/embeddings_project", embedding_width, width)
    for index in range(layers):
        layer = f"{scope}/encoder/layer_{index}"
        for part in ("query", "key", "value"):
            variables |= dense(f"{layer}/attention/self/{part}", width, width)
        variables |= dense(f"{layer}/attention/output/dense", width, width) | norm(f"{layer}/attention/output/LayerNorm", width)
        variables |= dense(f"{layer}/intermediate/dense", width, wide) | dense(f"{layer}/output/dense", wide, width)
        variables |= norm(f"{layer}/output/LayerNorm", width)
    return variables


def detection_variables(width):
    return dense("discriminator_predictions/dense", width, width) | dense("discriminator_predictions/dense_1", width, 1)


def prediction_variables(width, embedding_width):
    head = dense("generator_predictions/dense", width, embedding_width) | norm("generator_predictions/LayerNorm", embedding_width)
    return head | {"generator_predictions/output_bias": (VOCAB_SIZE,)}


def original_variables(width=12, layers=2, wide=48, embedding_width=6, generator_width=4):
    """Random values for all variables of a pre-training run with shared embeddings."""
    shapes = embedding_variables("electra", embedding_width) | encoder_variables("electra", layers, width, wide, embedding_width)
    shapes |= encoder_variables("generator", layers, generator_width, 4 * generator_width, embedding_width)
    shapes |= detection_variables(width) | prediction_variables(generator_width, embedding_width)
    return random_values(shapes)


def random_values(shapes):
    random = np.random.default_rng(0)
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of both encoders, with its vocabulary and its configurations."""
    path = tmp_path / "original"
    path.mkdir()
    return write_checkpoint(path, original_variables())


def write_checkpoint(folder, variables, step=7, vocab=None, heads=True):
    """Trains nothing, but saves as the original does: the weights, their moments and the step."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        placed = [v1.get_variable(name, initializer=array) for name, array in variables.items()]
        placed += [
            v1.get_variable(f"{name}/{slot}", initializer=array) for name, array in variables.items() for slot in ("adam_m", "adam_v")
        ]
        placed.append(v1.get_variable("global_step", initializer=np.int64(step)))
        session.run(v1.global_variables_initializer())
        v1.train.Saver(placed).save(session, str(folder / "model.ckpt"), global_step=step)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocab or vocabulary(VOCAB_SIZE)), encoding="utf-8")
    if heads:
        (folder / "tiny_discriminator_config.json").write_text(json.dumps({"num_attention_heads": 3}))
        (folder / "tiny_generator_config.json").write_text(json.dumps({"num_attention_heads": 1}))
    return folder


def test_both_encoders_come_out_of_one_checkpoint(tmp_path, folder):
    theirs = original_variables()
    run = import_run(folder / "model.ckpt-7", tmp_path / "run", report=silent)
    model = run.config.model
    assert (model.num_layers, model.hidden_dim, model.num_heads, model.intermediate_dim) == (2, 12, 3, 48)
    assert model.generator_shape() == {"num_layers": 2, "hidden_dim": 4, "num_heads": 1, "intermediate_dim": 16}
    ours = run.final_weights()
    assert run.description["missing"] == [] and sum(array.size for array in ours.values()) == sum(array.size for array in theirs.values())
    layer = "generator/encoder/layer_1/attention/self"
    fused = np.concatenate([theirs[f"{layer}/{part}/kernel"] for part in ("query", "key", "value")], axis=1)
    expected = {
        "embeddings/word/embeddings": theirs["electra/embeddings/word_embeddings"],
        "embeddings/segment/embeddings": theirs["electra/embeddings/token_type_embeddings"],
        "discriminator/embeddings_project/kernel": theirs["electra/embeddings_project/kernel"],
        "discriminator/layer_0/attention_norm/gamma": theirs["electra/encoder/layer_0/attention/output/LayerNorm/gamma"],
        "discriminator/layer_1/output/kernel": theirs["electra/encoder/layer_1/output/dense/kernel"],
        "discriminator/detection_head/prediction/kernel": theirs["discriminator_predictions/dense_1/kernel"],
        "generator/layer_1/attention/qkv/kernel": fused,
        "generator/layer_0/output_norm/beta": theirs["generator/encoder/layer_0/output/LayerNorm/beta"],
        "generator/masked_lm_head/norm/beta": theirs["generator_predictions/LayerNorm/beta"],
        "generator/output_bias/bias": theirs["generator_predictions/output_bias"],
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_a_folder_stands_for_its_newest_checkpoint(folder):
    for suffix in ("index", "data-00000-of-00001"):
        (folder / f"model.ckpt-12.{suffix}").write_bytes((folder / f"model.ckpt-7.{suffix}").read_bytes())
    assert find_checkpoint(folder) == folder / "model.ckpt-12"
    assert find_checkpoint(folder / "model.ckpt-7") == folder / "model.ckpt-7"
    assert find_checkpoint(folder / "model.ckpt-7.index") == folder / "model.ckpt-7"
    assert find_checkpoint(folder / "absent") is None


def test_the_current_folder_is_one_like_any_other(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    assert find_checkpoint(pathlib.Path(".")) == pathlib.Path("model.ckpt-7")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match="holds no model"):
        import_run(".", tmp_path / "run", report=silent)


def test_heads_are_64_wide_where_nothing_says_otherwise(tmp_path):
    variables = original_variables(width=192, layers=1, wide=768, embedding_width=8, generator_width=64)
    run = import_run(write_checkpoint(tmp_path, variables, heads=False), tmp_path / "run", report=silent)
    assert run.config.model.num_heads == 3 and run.config.model.generator_shape()["num_heads"] == 1
    assert run.config.model.generator_shape()["hidden_dim"] == 64


def test_an_unusual_width_without_a_number_of_heads_is_refused(tmp_path, folder):
    (folder / "tiny_discriminator_config.json").unlink()
    with pytest.raises(UserError, match=r"12 wide, which does not tell its number of attention heads. Write .*discriminator_config.json"):
        import_run(folder, tmp_path / "run", report=silent)


@pytest.mark.parametrize(("words", "lowercase"), [([*"AZaz"], False), ([*"abyz"], True)])
def test_a_vocabulary_tells_whether_it_is_cased(tmp_path, words, lowercase):
    vocab = [*vocabulary(VOCAB_SIZE)[: VOCAB_SIZE - 4], *words]
    run = import_run(write_checkpoint(tmp_path, original_variables(), vocab=vocab), tmp_path / "run", report=silent)
    assert run.tokenizer().settings == {"lowercase": lowercase, "strip_accents": None, "split_chinese": True}


def test_the_vocabulary_may_lie_where_the_original_has_it(tmp_path, folder):
    target = tmp_path / "data" / "models" / "small"
    target.parent.mkdir(parents=True)
    folder.rename(target)
    (target / "vocab.txt").rename(tmp_path / "data" / "vocab.txt")
    assert import_run(target, tmp_path / "run", report=silent).tokenizer().vocab == vocabulary(VOCAB_SIZE)
    (tmp_path / "data" / "vocab.txt").unlink()
    with pytest.raises(UserError, match=r"There is no vocab.txt beside"):
        import_run(target, tmp_path / "again", report=silent)


def test_without_a_generator_of_its_own_the_discriminator_comes_alone(tmp_path):
    variables = {name: array for name, array in original_variables().items() if not name.startswith("generator/")}
    run = import_run(write_checkpoint(tmp_path, variables), tmp_path / "run", report=silent)
    assert run.description["missing"] == ["generator"]


def test_trained_on_berts_objective_it_is_a_masked_language_model(tmp_path):
    shapes = embedding_variables("electra", 6) | encoder_variables("electra", 1, 12, 20, 6) | prediction_variables(12, 6)
    run = import_run(write_checkpoint(tmp_path, random_values(shapes)), tmp_path / "run", report=silent)
    assert run.config.objective.name == "mlm" and run.config.model.num_heads == 3


def test_embeddings_of_the_generators_own_stay_its_own(tmp_path):
    shapes = embedding_variables("electra", 6) | encoder_variables("electra", 1, 12, 48, 6) | detection_variables(12)
    shapes |= embedding_variables("generator", 6) | encoder_variables("generator", 1, 4, 16, 6) | prediction_variables(4, 6)
    variables = random_values(shapes)
    run = import_run(write_checkpoint(tmp_path, variables), tmp_path / "run", report=silent)
    assert run.config.model.embedding_sharing == "none"
    found = run.final_weights()["generator/own_embeddings/word/embeddings"]
    np.testing.assert_array_equal(found, variables["generator/embeddings/word_embeddings"])


def test_a_pair_that_does_not_fit_can_be_taken_apart(tmp_path):
    # By default the original gives embeddings of the generator's own the generator's width.
    shapes = embedding_variables("electra", 6) | encoder_variables("electra", 1, 12, 48, 6) | detection_variables(12)
    shapes |= embedding_variables("generator", 4) | encoder_variables("generator", 1, 4, 16, 4) | prediction_variables(4, 4)
    folder = write_checkpoint(tmp_path, random_values(shapes))
    with pytest.raises(UserError, match=r"embedding_dim 6 and its generator 4.*--only discriminator"):
        import_run(folder, tmp_path / "run", report=silent)
    run = import_run(folder, tmp_path / "run", only="discriminator", report=silent)
    assert run.description["missing"] == ["generator"]
    assert import_run(folder, tmp_path / "small", only="generator", report=silent).config.model.hidden_dim == 4


def without(name):
    return lambda variables: variables.pop(name)


def reshaped(name, shape):
    return lambda variables: variables.update({name: np.zeros(shape, np.float32)})


def as_bert(variables):
    for name in list(variables):
        variables[name.replace("electra/", "bert/")] = variables.pop(name)


LAYER = "electra/encoder/layer_1/output/dense/kernel"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(LAYER), f"missing: {LAYER}"),
        (without("discriminator_predictions/dense_1/bias"), "missing: discriminator_predictions/dense_1/bias"),
        (without("electra/embeddings/position_embeddings"), "has no matrix electra/embeddings/position_embeddings"),
        (reshaped(LAYER, (5, 12)), rf"{LAYER} is \(5, 12\) and should be \(48, 12\)"),
        (reshaped("task_specific/cola/dense/kernel", (5, 2)), "left over: task_specific/cola/dense/kernel"),
        (as_bert, "has no variable electra/embeddings/word_embeddings"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_one_error(tmp_path, change, message):
    variables = original_variables()
    change(variables)
    (tmp_path / "original").mkdir()
    folder = write_checkpoint(tmp_path / "original", variables)
    with pytest.raises(UserError, match=message):
        import_run(folder, tmp_path / "run", report=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_damaged_files_are_one_error(tmp_path, folder, part):
    path = folder / f"model.ckpt-7.{part}"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"model.ckpt-7 cannot be read as a TensorFlow checkpoint"):
        import_run(folder, tmp_path / "run", report=silent)
    path.unlink()
    with pytest.raises(UserError, match=r"cannot be read as a TensorFlow checkpoint|holds no model"):
        import_run(folder, tmp_path / "run", report=silent)
