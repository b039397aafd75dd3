import json

import pytest

from electra_keras.config import (
    RECIPES,
    Config,
    CorpusConfig,
    MaskingRates,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PackingConfig,
    TrainingConfig,
    check_one_source,
    to_dict,
)
from electra_keras.config_loading import config_fields, load_config
from electra_keras.errors import ConfigError


@pytest.mark.parametrize("prob", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_mask_prob_lies_strictly_between_0_and_1(prob):
    with pytest.raises(ConfigError, match="mask_prob is"):
        MaskingRates(mask_prob=prob)


def test_range_ends_that_are_allowed_are_accepted():
    rates = MaskingRates(mask_prob=0.5, keep_prob=0.0)
    assert rates.keep_prob == 0.0
    assert MaskingRates(keep_prob=1.0).keep_prob == 1.0
    assert PackingConfig(sequence_length=8).sequence_length == 8


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (TrainingConfig, {"num_steps": 0}, "num_steps is 0; it must be at least 1"),
        (MaskingRates, {"keep_prob": 1.5}, "keep_prob is 1.5; it must be at most 1"),
        (OptimizerConfig, {"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        (ModelConfig, {"dropout": 1.0}, "dropout is 1.0; it must be below 1"),
        (ModelConfig, {"hidden_dim": 130, "num_heads": 4}, "hidden_dim 130 is not divisible by num_heads 4"),
        (ModelConfig, {"hidden_dim": 120, "num_heads": 12, "generator_width_fraction": 0.34}, "generator of hidden_dim 41"),
        (ObjectiveConfig, {"name": "elektra"}, r"name is 'elektra'; it must be one of electra, mlm\.$"),
        (OptimizerConfig, {"name": None}, "name is None; it must be one of adamw, muon"),
        (Config, {"backend": "tf"}, "backend is 'tf'; it must be one of jax, tensorflow, torch"),
        (TrainingConfig, {"batch_size": 10, "gradient_accumulation_steps": 3}, "batch_size 10 is not divisible"),
    ],
)
def test_a_section_refuses_values_it_cannot_work_with(section, values, message):
    with pytest.raises(ConfigError, match=message):
        section(**values)


def test_sequence_length_over_the_positions_is_refused():
    with pytest.raises(ConfigError, match=r"sequence_length 1024 is over model.max_positions 512"):
        Config(packing=PackingConfig(sequence_length=1024))


def test_files_and_a_hub_data_set_are_not_read_together():
    with pytest.raises(ConfigError, match=r"corpus.files and corpus.hub are both set; set one\."):
        check_one_source(CorpusConfig(files=["a.txt"], hub="owner/name"))
    for corpus in (CorpusConfig(), CorpusConfig(files=["a.txt"]), CorpusConfig(hub="owner/name")):
        check_one_source(corpus)


def test_an_optional_number_may_be_absent():
    assert OptimizerConfig(clip_norm=None).clip_norm is None
    with pytest.raises(ConfigError, match="clip_norm"):
        OptimizerConfig(clip_norm=0.0)


def test_list_defaults_are_not_shared_between_instances():
    first, second = CorpusConfig(), CorpusConfig()
    first.files.append("a.txt")
    assert second.files == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Clark et al. 2020, table 6: generator size 1/4, 1/3, 1/4 of hidden size, FFN size and heads; all layers.
        ((12, 256, 4, 1024, 0.25), (12, 64, 1, 256)),
        ((12, 768, 12, 3072, 1 / 3), (12, 256, 4, 1024)),
        ((24, 1024, 16, 4096, 0.25), (24, 256, 4, 1024)),
    ],
)
def test_generator_shape_follows_the_paper(values, expected):
    num_layers, hidden_dim, num_heads, intermediate_dim, fraction = values
    config = ModelConfig(
        num_layers=num_layers,
        hidden_dim=hidden_dim,
        num_heads=num_heads,
        intermediate_dim=intermediate_dim,
        generator_width_fraction=fraction,
    )
    assert tuple(config.generator_shape().values()) == expected
    assert tuple(config.discriminator_shape().values()) == values[:-1]
    for shape in (config.generator_shape(), config.discriminator_shape()):
        assert list(shape) == ["num_layers", "hidden_dim", "num_heads", "intermediate_dim"]


def test_generator_sizes_never_fall_to_zero():
    config = ModelConfig(
        num_layers=1, hidden_dim=8, num_heads=1, intermediate_dim=8, generator_width_fraction=0.01, generator_depth_fraction=0.01
    )
    assert set(config.generator_shape().values()) == {1}


def test_every_field_says_what_it_means():
    for name, (field, _) in config_fields().items():
        assert field.metadata.get("help"), f"{name} has no help text"


def test_recipes_name_fields_and_values_that_exist():
    for recipe, values in RECIPES.items():
        config = load_config(None, {"recipe": recipe})
        assert config.recipe == recipe
        for name, value in values.items():
            section, field = config, name
            while "." in field:
                head, field = field.split(".", 1)
                section = getattr(section, head)
            assert getattr(section, field) == value


def test_to_dict_is_plain_data():
    values = to_dict(Config())
    assert json.loads(json.dumps(values)) == values
    assert values["masking"]["train"]["mask_prob"] == 0.15
    assert list(values) == ["recipe", "backend", "corpus", "tokenizer", "packing", "masking", "model", "objective", "optimizer", "training"]
