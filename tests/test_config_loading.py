import argparse
import dataclasses
import pathlib
import typing

import pytest
import yaml

from electra_keras.config import Config, to_dict
from electra_keras.config_loading import (
    add_config_arguments,
    closest,
    config_differences,
    config_fields,
    flat_values,
    given_overrides,
    load_config,
    save_config,
)
from electra_keras.errors import ConfigError, UserError

CONFIGS = pathlib.Path(__file__).parents[1] / "configs" / "pretrain"


@pytest.fixture
def write(tmp_path):
    def write_yaml(text):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_yaml


def test_silence_means_the_field_defaults():
    assert load_config(None) == Config()


def test_later_sources_win(write):
    path = write("recipe: modern\nmasking: {train: {mask_prob: 0.2}}\ntraining: {seed: 3, num_steps: 4}\n")
    config = load_config(path, {"training.seed": 5})
    assert config.model.initialization == "fan_in"  # recipe over field default
    assert config.masking.train.mask_prob == 0.2  # YAML over recipe
    assert config.masking.validation.mask_prob == 0.15  # field default
    assert (config.training.num_steps, config.training.seed) == (4, 5)  # override over YAML


def test_the_recipe_itself_can_be_overridden(write):
    path = write("recipe: modern\n")
    assert load_config(path, {"recipe": "paper"}) == Config()
    assert load_config(None, {"recipe": "modern"}) == load_config(path)


def test_an_explicit_value_wins_over_the_recipe_even_where_it_is_the_default(write):
    assert load_config(write("recipe: modern\noptimizer: {name: adamw}\n")).optimizer.name == "adamw"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5e-4", 5e-4), ("5E-4", 5e-4), (".5", 0.5), ("1", 1.0), ("'0.25'", 0.25), ("1e1", 10.0)],
)
def test_floats_may_be_written_in_every_usual_form(write, text, expected):
    rate = load_config(write(f"optimizer: {{learning_rate: {text}}}")).optimizer.learning_rate
    assert rate == expected and type(rate) is float


@pytest.mark.parametrize(("text", "expected"), [("no", False), ("on", True), ("true", True), ("False", False)])
def test_yaml_truth_values_are_truth_values(write, text, expected):
    assert load_config(write(f"tokenizer: {{lowercase: {text}}}")).tokenizer.lowercase is expected


def test_a_section_left_empty_counts_as_absent(write):
    assert load_config(write("training:\nmasking:\n  train:\n")) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {num_stpes: 4}", "unknown field training.num_stpes. Did you mean training.num_steps?"),
        ("trainning: {num_steps: 4}", "unknown field trainning. Did you mean training?"),
        ("num_step: 4", "unknown field num_step. Did you mean training.num_steps?"),
        ("training: {num_steps: {a: 4}}", "training.num_steps is {'a': 4}; it must be a whole number"),
        ("zzzzzzzz: 4", "unknown field zzzzzzzz. Run `electra-keras pretrain --help`"),
        ("training: 5", "training is 5, but it is a section"),
        ("training: {num_steps: 1e6}", "training.num_steps is '1e6'; it must be a whole number written in digits"),
        ("training: {num_steps: 1.0e+6}", "training.num_steps is 1000000.0; it must be a whole number"),
        ("training: {num_steps: true}", "training.num_steps is True; it must be a whole number"),
        ("training: {num_steps: null}", "training.num_steps is null; it must be a whole number"),
        ("training: {num_steps: 0}", "training.num_steps is 0; it must be at least 1"),
        ("masking: {train: {mask_prob: 1.5}}", "masking.train.mask_prob is 1.5; it must be below 1"),
        ("optimizer: {learning_rate: fast}", "optimizer.learning_rate is 'fast'; it must be a finite number"),
        ("optimizer: {learning_rate: .inf}", "optimizer.learning_rate is inf; it must be a finite number"),
        ("optimizer: {clip_norm: many}", "optimizer.clip_norm is 'many'; it must be a finite number, such as 0.0005 or 5e-4, or null"),
        ("corpus: {text_field: no}", "corpus.text_field is False; it must be text; put it in quotes"),
        ("objective: {name: elektra}", "objective.name is 'elektra'; it must be one of electra, mlm. Did you mean electra?"),
        ("objective: {name: no}", "objective.name is False; it must be one of electra, mlm."),
        ("corpus: {hub: 5}", "corpus.hub is 5; it must be text"),
        ("tokenizer: {lowercase: 1}", "tokenizer.lowercase is 1; it must be true or false"),
        ("corpus: {files: a.txt}", "corpus.files is 'a.txt'; it must be a list of texts"),
        ("corpus: {files: [1]}", r"corpus.files is [1]; it must be a list of texts"),
        (
            "model: {embedding_sharing: share}",
            "model.embedding_sharing is 'share'; it must be one of shared, disentangled, none. Did you mean shared?",
        ),
        ("backend: tf", "backend is 'tf'; it must be one of jax, tensorflow, torch"),
        ("recipe: papr", "recipe is 'papr'; it must be one of paper, modern. Did you mean paper?"),
        ("model: {hidden_dim: 130}", "section model: hidden_dim 130 is not divisible by num_heads 4"),
        ("packing: {sequence_length: 1024}", "packing.sequence_length 1024 is over model.max_positions 512"),
        ("training.seed: 1\ntraining: {seed: 2}", "training.seed is given twice"),
    ],
)
def test_a_bad_value_is_named_with_its_file_and_the_remedy(write, text, message):
    path = write(text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_a_huge_value_makes_no_huge_message(write):
    with pytest.raises(ConfigError) as error:
        load_config(write(f"training: {{seed: [{', '.join('x' * 50 for _ in range(1000))}]}}"))
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("training.num_stpes", "4", "unknown field training.num_stpes. Did you mean training.num_steps?"),
        ("training", "4", "unknown field training"),
        ("training.seed", "-1", "training.seed is -1; it must be at least 0"),
        ("training.seed", "one", "training.seed is 'one'; it must be a whole number"),
    ],
)
def test_bad_overrides_are_refused_without_naming_a_file(write, name, value, message):
    with pytest.raises(ConfigError) as error:
        load_config(write("training: {seed: 1}"), {name: value})
    assert str(error.value).startswith(message)


def test_override_strings_become_the_fields_type():
    config = load_config(
        None,
        {
            "training.num_steps": "7",
            "optimizer.learning_rate": "5e-4",
            "tokenizer.lowercase": "false",
            "tokenizer.strip_accents": "null",
            "optimizer.clip_norm": "null",
            "corpus.files": ["5", "b*.txt"],
            "corpus.hub": "12",
        },
    )
    assert config.training.num_steps == 7 and config.optimizer.learning_rate == 5e-4
    assert config.tokenizer.lowercase is False and config.tokenizer.strip_accents is None and config.optimizer.clip_norm is None
    assert config.corpus.files == ["5", "b*.txt"] and config.corpus.hub == "12"


def test_override_values_may_be_python_values():
    config = load_config(None, {"training.num_steps": 7, "corpus.hub": None, "tokenizer.lowercase": False, "corpus.files": ["a"]})
    assert config.training.num_steps == 7 and config.corpus.hub is None and config.tokenizer.lowercase is False


def every_field_changed():
    """Returns overrides that move every field off its default."""
    changed = {}
    for name, (_, kind) in config_fields().items():
        default = flat_values(Config())[name]
        choices = [
            choice
            for part in (kind, *typing.get_args(kind))
            if typing.get_origin(part) is typing.Literal
            for choice in typing.get_args(part)
        ]
        if choices:
            changed[name] = next(choice for choice in choices if choice != default)
        elif isinstance(default, bool):
            changed[name] = not default
        elif isinstance(default, int):
            changed[name] = default * 2 + 2
        elif isinstance(default, float):
            changed[name] = default * 0.5 + 1e-7
        elif isinstance(default, list):
            changed[name] = ["null", "5e-4", "a b: #", "é😀", "no"]
        elif bool in typing.get_args(kind):
            changed[name] = True
        else:
            changed[name] = "null: # 'x' é"
    # Fields that must fit together.
    return changed | {
        "model.num_heads": 2,
        "model.hidden_dim": 24,
        "training.gradient_accumulation_steps": 2,
        "model.generator_width_fraction": 0.5,
    }


def test_a_saved_configuration_loads_equal_whatever_its_values(tmp_path):
    config = load_config(None, every_field_changed())
    assert len(config_differences(Config(), config)) == len(config_fields())
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


@pytest.mark.parametrize("value", ["null", "no", "5", "1e3", "", " a ", "line\nbreak", "\udcff", "a: b", "2020-01-01", "~"])
def test_saved_text_stays_text(tmp_path, value):
    config = dataclasses.replace(Config(), corpus=dataclasses.replace(Config().corpus, hub=value, files=[value]))
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml").corpus == config.corpus


def test_a_saved_configuration_names_every_field_and_ignores_later_recipes(tmp_path):
    config = load_config(None, {"recipe": "modern", "model.dropout": 0.1})
    save_config(config, tmp_path / "saved.yaml")
    assert yaml.safe_load((tmp_path / "saved.yaml").read_text(encoding="utf-8")) == to_dict(config)
    assert load_config(tmp_path / "saved.yaml").model.dropout == 0.1


def test_saving_where_nothing_can_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        save_config(Config(), tmp_path / "file" / "config.yaml")


def test_differences_name_fields_with_both_values():
    new = load_config(None, {"training.num_steps": 20, "tokenizer.lowercase": False, "corpus.hub": "x", "masking.train.mask_prob": 0.3})
    assert config_differences(Config(), new) == [
        "corpus.hub: null -> x",
        "tokenizer.lowercase: true -> false",
        "masking.train.mask_prob: 0.15 -> 0.3",
        "training.num_steps: 1000000 -> 20",
    ]
    assert config_differences(new, new) == []


def test_every_field_is_an_option_with_range_and_default_in_its_help():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_config_arguments(parser)
    text = " ".join(parser.format_help().split())
    for name in config_fields():
        assert f"--{name} " in text
    assert "--training.num_steps INTEGER optimizer updates (at least 1; default: 1000000)" in text
    assert "--masking.train.mask_prob NUMBER" in text
    assert "(above 0; below 1; default: 0.15)" in text
    assert "--objective.name {electra,mlm} " in text
    assert "--training.precision {float32,mixed_bfloat16,mixed_float16} Keras dtype policy (default: float32)" in text


def test_only_options_that_were_given_override():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--out_dir")
    add_config_arguments(parser)
    arguments = parser.parse_args(["--out_dir", "x", "--training.num_steps", "5", "--corpus.files", "a", "b"])
    assert given_overrides(vars(arguments)) == {"training.num_steps": "5", "corpus.files": ["a", "b"]}


@pytest.mark.parametrize(
    ("given", "files", "hub"),
    [
        ({}, [], "owner/name"),
        ({"corpus.files": ["a.txt"]}, ["a.txt"], None),
        ({"corpus.hub": "owner/other"}, [], "owner/other"),
        ({"corpus.files": ["a.txt"], "corpus.hub": "owner/other"}, ["a.txt"], "owner/other"),
        ({"corpus.files": []}, [], "owner/name"),
    ],
)
def test_a_corpus_on_the_command_line_takes_the_place_of_the_configurations(tmp_path, given, files, hub):
    path = tmp_path / "config.yaml"
    path.write_text("corpus:\n  hub: owner/name\n")
    corpus = load_config(path, given).corpus
    assert (corpus.files, corpus.hub) == (files, hub)


@pytest.mark.parametrize(("hub", "files", "found"), [("owner/name", [], "owner/name"), ("null", ["a.txt"], None)])
def test_a_hub_data_set_on_the_command_line_takes_the_place_of_files(tmp_path, hub, files, found):
    path = tmp_path / "config.yaml"
    path.write_text("corpus:\n  files: [a.txt]\n")
    corpus = load_config(path, {"corpus.hub": hub}).corpus
    assert (corpus.files, corpus.hub) == (files, found)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("training.nmu_steps", "training.num_steps"),
        ("batchsize", "training.batch_size"),
        ("mask_prob", "masking.train.mask_prob"),
        ("qqqq", None),
    ],
)
def test_closest_finds_what_was_meant(name, expected):
    assert closest(name, config_fields()) == expected


# Clark et al. 2020, table 6; sequence lengths from section A.
TABLE_6 = {
    "small": (12, 256, 1024, 4, 128, 0.25, 0.15, 5e-4, 128, 1_000_000, 128),
    "base": (12, 768, 3072, 12, 768, 1 / 3, 0.15, 2e-4, 256, 766_000, 512),
    "large": (24, 1024, 4096, 16, 1024, 0.25, 0.25, 2e-4, 2048, 400_000, 512),
}


@pytest.mark.parametrize("size", TABLE_6)
def test_shipped_configurations_are_the_papers(size):
    config = load_config(CONFIGS / f"{size}.yaml")
    model, optimizer, training = config.model, config.optimizer, config.training
    layers, hidden, feed_forward, heads, embedding, generator, mask, rate, batch, steps, length = TABLE_6[size]
    assert (model.num_layers, model.hidden_dim, model.intermediate_dim, model.num_heads, model.embedding_dim) == (
        layers,
        hidden,
        feed_forward,
        heads,
        embedding,
    )
    assert model.generator_width_fraction == pytest.approx(generator, abs=1e-6)
    assert model.generator_shape()["hidden_dim"] == round(hidden * generator)
    assert model.generator_depth_fraction == 1.0 and model.max_positions == 512
    assert (config.masking.train.mask_prob, config.masking.validation.mask_prob) == (mask, 0.15)
    assert (optimizer.learning_rate, training.batch_size, training.num_steps, config.packing.sequence_length) == (
        rate,
        batch,
        steps,
        length,
    )
    # The rows of table 6 that are the same for all sizes, and section 3.3's weight.
    assert (optimizer.name, optimizer.schedule, optimizer.warmup_steps, optimizer.weight_decay) == ("adamw", "linear", 10_000, 0.01)
    assert (optimizer.epsilon, optimizer.beta_1, optimizer.beta_2) == (1e-6, 0.9, 0.999)
    assert (model.dropout, model.attention_dropout, config.objective.discriminator_weight) == (0.1, 0.1, 50.0)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_loads_and_says_its_command(path):
    config = load_config(path)
    assert config.recipe == ("modern" if path.stem == "tiny" else "paper")
    assert f"--config configs/pretrain/{path.name}" in path.read_text(encoding="utf-8")
