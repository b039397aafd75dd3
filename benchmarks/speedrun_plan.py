"""What the speed run compares: two recipes, the modern one less one ingredient or with one more; and how a cell is configured.

The paper's recipe shares with the modern one what is no recipe: corpus, vocabulary, model shape, sequence length, batch, precision,
held-out masks. All else is the paper's. Its warm-up keeps the paper's share of a run, 10,000 of 1,000,000 steps: taken as a number of
steps it would outlast the budget, and a recipe that never reaches its rate is no opponent.
"""

import dataclasses
import fnmatch
import os
from collections.abc import Mapping, Sequence
from typing import Any

from electra_keras.config import Config
from electra_keras.config_loading import config_differences, config_fields, flat_values, load_config
from electra_keras.errors import UserError

PAPER_WARMUP_FRACTION = 10_000 / 1_000_000
OPENING_SHARE = 0.25
SHARED = (
    "backend",
    "corpus.",
    "tokenizer.",
    "packing.sequence_length",
    "masking.validation.",
    "model.num_",
    "model.hidden_dim",
    "model.intermediate_dim",
    "model.embedding_dim",
    "model.max_positions",
    "model.generator_",
    "training.batch_size",
    "training.precision",
)
# Name -> settings of prepared data: the two styles that recipes train on, blocks of one segment, and blocks of half of tiny.yaml's length.
PACKINGS = {
    "segments": {"packing.style": "segments"},
    "blocks": {"packing.style": "blocks"},
    "single_blocks": {"packing.style": "blocks", "packing.single_segment_prob": 1.0},
    "short_blocks": {"packing.style": "blocks", "packing.sequence_length": 32},
}
# Every recipe is validated on both halves, whichever it was trained on.
HELD_OUT_PACKINGS = ("segments", "single_blocks")
# What a cell's length and place on disk decide, and nobody chose.
NO_SETTING = ("backend", "corpus.files", "tokenizer.vocab_file", "training.num_steps", "training.seed")
NO_SETTING += ("training.log_every_steps", "training.validate_every_steps", "training.checkpoint_every_steps")


@dataclasses.dataclass(frozen=True)
class Opening:
    """What a training does otherwise in its first OPENING_SHARE of the steps.

    Attributes:
        packing: a key of PACKINGS; the rest's where it is None.
        batch_size: examples an update; the rest's where it is None.
        draws: the sampler of the replacements, see speedrun_ingredients.sampler; the generator's own where it is None.
    """

    packing: str | None = None
    batch_size: int | None = None
    draws: str | None = None


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to train.

    Attributes:
        what: in words, for the tables.
        recipe: "paper", or "modern", which is the configuration file as it stands.
        overrides: dotted field -> value, on top of the recipe.
        scaled_warmup: whether the warm-up takes the paper's share of the steps.
        opening: how it begins, where that differs.
        zero_outputs: whether attention and feed-forward begin with output matrices of 0.
        averaged: whether the weights at the end are a moving average.
        departures: in what its encoders are not ELECTRA's, see speedrun_architectures.Architecture.
    """

    what: str
    recipe: str = "modern"
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scaled_warmup: bool = False
    opening: Opening | None = None
    zero_outputs: bool = False
    averaged: bool = False
    departures: Sequence[str] = ()

    def beyond_configuration(self) -> dict[str, Any]:
        """Returns what no field of the configuration says, by name; what is not used is left out."""
        opening = self.opening and {name: value for name, value in dataclasses.asdict(self.opening).items() if value is not None}
        departures = dict.fromkeys(self.departures, True)
        extras = {"opening": opening, "zero_outputs": self.zero_outputs, "averaged": self.averaged, "departures": departures}
        return {name: value for name, value in extras.items() if value}


RECIPE_VARIANTS = {
    "paper": Variant("the paper's recipe", "paper", scaled_warmup=True),
    "modern": Variant("the modern recipe"),
}
BASELINES = {
    "paper_fast_rate": Variant("the paper's recipe at 4 times its rate", "paper", {"optimizer.learning_rate": 2e-3}, scaled_warmup=True),
}
ABLATIONS = {
    "no_muon": Variant("AdamW for the matrices, rate 2e-3", overrides={"optimizer.name": "adamw", "optimizer.learning_rate": 2e-3}),
    "no_fan_in": Variant("matrices from 0.02", overrides={"model.initialization": "truncated_normal"}),
    "no_pmi": Variant("random word vectors", overrides={"model.embedding_initialization": "random"}),
    "no_neighbors": Variant("random first heads", overrides={"model.attention_initialization": "random"}),
    "no_unigram": Variant("output biases from 0", overrides={"model.output_bias_initialization": "zeros"}),
    "paper_adam": Variant(
        "the paper's Adam: no bias correction, beta_2 0.999, epsilon 1e-6",
        overrides={"optimizer.bias_correction": False, "optimizer.beta_2": 0.999, "optimizer.epsilon": 1e-6},
    ),
    "decay_and_clip": Variant("weight decay 0.01, clip 1", overrides={"optimizer.weight_decay": 0.01, "optimizer.clip_norm": 1.0}),
    "dropout": Variant("dropout 0.1", overrides={"model.dropout": 0.1, "model.attention_dropout": 0.1}),
    "long_warmup": Variant("the paper's warm-up", scaled_warmup=True),
    "segments": Variant("the paper's packing", overrides={"packing.style": "segments"}),
}
# What `modern` might gain from.
CANDIDATES = {
    "more_masks": Variant("30% masks", overrides={"masking.train.mask_prob": 0.3}),
    "stable_rate": Variant("a stable rate, decayed over the last 30%", overrides={"optimizer.schedule": "warmup_stable_decay"}),
    "slow_generator": Variant("the generator at half the rate", overrides={"optimizer.generator_rate_multiplier": 0.5}),
    "wide_generator": Variant("a generator of half the width", overrides={"model.generator_width_fraction": 0.5}),
    "zero_outputs": Variant("output matrices of the layers from 0", zero_outputs=True),
    "averaged": Variant(
        "a constant rate, and the weights' moving average",
        overrides={"optimizer.schedule": "warmup_stable_decay", "optimizer.decay_fraction": 1e-6},
        averaged=True,
    ),
    "small_batches_first": Variant("half the batch in the first quarter", opening=Opening(batch_size=32)),
    "short_texts_first": Variant("half the length in the first quarter", opening=Opening(packing="short_blocks")),
    "hot_draws_first": Variant("replacements drawn at temperature 2 in the first quarter", opening=Opening(draws="hot")),
    "followers_first": Variant("replacements by counts of neighbours in the first quarter", opening=Opening(draws="followers")),
}
# Encoders that are not ELECTRA's any more, and can be exported to nothing: outside the comparison of the recipes.
ARCHITECTURES = {
    # The embeddings have no positions for the first heads to compare; rotary attention begins at its neighbours in its own way.
    "rotary": Variant("rotary positions", overrides={"model.attention_initialization": "random"}, departures=("rotary",)),
    "gated": Variant("a gated feed-forward", departures=("gated",)),
    "unbiased": Variant("layers without biases", departures=("unbiased",)),
    "norm_first": Variant("LayerNorm before attention and feed-forward", departures=("norm_first",)),
}
VARIANTS = {**RECIPE_VARIANTS, **BASELINES, **ABLATIONS, **CANDIDATES, **ARCHITECTURES}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        corpus: "builtin" or "en_wiki".
        variant: a key of VARIANTS.
        minutes: the budget: initialisation and training steps; compilation, validation and checkpoints are not in it.
        seed: of weights, order, masks and dropout.
    """

    corpus: str
    variant: str
    minutes: float
    seed: int

    @property
    def name(self) -> str:
        """What the results file and --cells call it."""
        return f"{self.corpus}/{self.variant}/{self.minutes:g}m/seed{self.seed}"


def plan(corpora: Sequence[str], seeds: Sequence[int], minutes: float) -> list[Cell]:
    """Returns all cells, those first that answer the question on one seed.

    Both recipes at the full budget; the modern one also at a third of it, with its rate decayed by then: the goal in one number. The
    paper's recipe at a higher rate, and the modern one less one ingredient or on another architecture, once each, with the first seed.
    Candidates likewise, at a tenth of the budget, which for half an hour is about what the demo trains, beside the modern recipe as it is.
    """
    short, tenth = minutes / 3, minutes / 10
    cells = []
    for corpus in corpora:
        for seed in seeds:
            cells += [Cell(corpus, "paper", minutes, seed), Cell(corpus, "modern", minutes, seed), Cell(corpus, "modern", short, seed)]
        cells += [Cell(corpus, variant, minutes, seeds[0]) for variant in BASELINES]
        cells += [Cell(corpus, variant, short, seeds[0]) for variant in [*ABLATIONS, *ARCHITECTURES]]
        cells += [Cell(corpus, "modern", tenth, seed) for seed in seeds]
        cells += [Cell(corpus, variant, tenth, seeds[0]) for variant in CANDIDATES]
    return cells


def select(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """Returns the cells whose names fit one of the shell patterns, see `matching`."""
    names = set(matching([cell.name for cell in cells], patterns))
    return [cell for cell in cells if cell.name in names]


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Returns the names of cells that fit one of the shell patterns; all where there is none.

    Raises:
        UserError: a pattern fits no cell.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise UserError(f"{pattern!r} fits no cell, such as {names[0]}; speedrun.py --list shows them all.")
    return [name for name in names if not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def variant_config(variant: Variant, path: str | os.PathLike, given: Mapping[str, Any]) -> Config:
    """Returns the configuration of a variant, its length still open.

    Args:
        variant: the recipe and what it changes.
        path: YAML file of the modern recipe, which also gives all that the recipes share.
        given: dotted field -> value that counts for every variant of a corpus.
    """
    overrides = {"recipe": variant.recipe, **given, **variant.overrides}
    if variant.recipe == "modern":
        return load_config(path, overrides)
    file = flat_values(load_config(path))
    shared = {name: file[name] for name in config_fields() if name.startswith(SHARED) and file[name] is not None}
    return load_config(None, {**shared, **overrides})


def with_length(config: Config, variant: Variant, num_steps: int, every: int, seed: int) -> Config:
    """Returns the configuration of a training of `num_steps` that reports and validates at every `every` of them."""
    training = dataclasses.replace(
        config.training,
        num_steps=num_steps,
        log_every_steps=every,
        validate_every_steps=every,
        checkpoint_every_steps=2 * every,
        seed=seed,
    )
    optimizer = config.optimizer
    if variant.scaled_warmup:
        optimizer = dataclasses.replace(optimizer, warmup_steps=max(1, round(PAPER_WARMUP_FRACTION * num_steps)))
    return dataclasses.replace(config, training=training, optimizer=optimizer)


def settings(config: Config, variant: Variant) -> list[str]:
    """Returns, one line a field, where a training departs from the paper's defaults: what a result was measured with."""
    lines = [line for line in config_differences(Config(), config) if line.split(":", 1)[0] not in NO_SETTING]
    return lines + [f"{name}: {value}" for name, value in variant.beyond_configuration().items()]


def steps_within(minutes: float, initialization_seconds: float, step_seconds: float) -> int:
    """Returns how many steps fit into a budget after the initialisation.

    Raises:
        UserError: not one does.
    """
    steps = int((60.0 * minutes - initialization_seconds) / step_seconds)
    if steps < 1:
        raise UserError(
            f"{minutes:g} minutes are too few: initialisation takes {initialization_seconds:.1f} s and a step {step_seconds:.3f} s. "
            "Raise --budget_minutes."
        )
    return steps


def steps_between_validations(num_steps: int, step_seconds: float, wanted_seconds: float) -> int:
    """Returns the steps from one validation to the next: the wanted seconds, and at least four validations a training."""
    return max(1, min(round(wanted_seconds / step_seconds), num_steps // 4))
