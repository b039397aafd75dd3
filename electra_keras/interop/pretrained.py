"""Pretrained encoders of whatever origin, put together to the configuration and weights of a run."""

import dataclasses
import itertools

import numpy as np

from electra_keras.arrays import Arrays
from electra_keras.config import Config, ModelConfig, ObjectiveConfig, PackingConfig, TokenizerConfig
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.errors import ConfigError, UserError
from electra_keras.interop.layout import EncoderSize, Head, listing, to_run_weights

# Longer windows cost a detector more than they tell it, and no published ELECTRA has more positions.
LONGEST_SEQUENCE = 512
DEPTH, WIDTHS = ("num_layers",), ("hidden_dim", "num_heads", "intermediate_dim")


@dataclasses.dataclass(frozen=True)
class PretrainedEncoder:
    """One encoder with its head and its tokenizer.

    Attributes:
        size: of the encoder.
        head: "detection" makes it a discriminator, "masked_lm" a generator; None is an encoder alone.
        weights: float32, by the names of `EncoderSize.weight_shapes`.
        tokenizer: has as many entries as the word embeddings have rows.
        dropout: of hidden units in training.
        attention_dropout: of attention weights in training.
        source: where it comes from, for messages.
    """

    size: EncoderSize
    head: Head | None
    weights: Arrays
    tokenizer: WordPieceTokenizer
    dropout: float
    attention_dropout: float
    source: str

    @property
    def role(self) -> str:
        """What it is called in messages."""
        return {"detection": "discriminator", "masked_lm": "generator", None: "encoder"}[self.head]


@dataclasses.dataclass(frozen=True)
class PretrainedRun:
    """A run that was trained elsewhere.

    Attributes:
        config: its configuration; what does not concern the model has its default.
        tokenizer: its vocabulary.
        weights: by structural name.
        missing: what a run of this objective has beside it: "generator", "detection head".
    """

    config: Config
    tokenizer: WordPieceTokenizer
    weights: Arrays
    missing: tuple[str, ...]


def put_together(encoders: list[PretrainedEncoder]) -> PretrainedRun:
    """Makes a run of one encoder, or of a discriminator and its generator.

    A generator alone becomes a run of the objective mlm: a masked language model is what it is.

    Raises:
        UserError: two encoders of the same kind, a pair that was not trained together, or weights that are no numbers.
    """
    for encoder in encoders:
        _check_finite(encoder)
    generators = [encoder for encoder in encoders if encoder.head == "masked_lm"]
    others = [encoder for encoder in encoders if encoder.head != "masked_lm"]
    for same in (generators, others):
        if len(same) > 1:
            raise UserError(f"{same[0].source} and {same[1].source} both hold a {same[0].role}. Give one discriminator and one generator.")
    if not others:
        return _alone(generators[0], "mlm", "encoder", ())
    if not generators:
        missing = ("generator",) if others[0].head else ("detection head", "generator")
        return _alone(others[0], "electra", "discriminator", missing)
    return _pair(others[0], generators[0])


def fraction_between(width: dict[str, int], full: dict[str, int]) -> float | None:
    """Returns the fraction that, times each full size and rounded, gives each smaller one; None where there is none.

    Args:
        width: the generator's sizes, at least 1 each.
        full: the discriminator's, under the same names.
    """
    bounds = [((size - 0.5) / full[name] if size > 1 else 0.0, (size + 0.5) / full[name]) for name, size in width.items()]
    low, high = max(low for low, _ in bounds), min(1.0, *(high for _, high in bounds))
    name = next(iter(width))
    exact = width[name] / full[name]
    # Python rounds halves to even, so the bounds themselves may fall on either side.
    candidates = [exact, (low + high) / 2] if low <= high else []
    return next((f for f in candidates if 0 < f <= 1 and all(max(1, round(full[n] * f)) == size for n, size in width.items())), None)


def _check_finite(encoder: PretrainedEncoder) -> None:
    broken = [name for name, array in encoder.weights.items() if not np.isfinite(array).all()]
    if broken:
        raise UserError(
            f"{encoder.source} holds NaN or infinite weights, which come of a training that diverged: {listing(broken)}. "
            "Give the weights of an earlier step."
        )


def _alone(encoder: PretrainedEncoder, objective: str, model_name: str, missing: tuple[str, ...]) -> PretrainedRun:
    try:
        model = _model_config(encoder)
    except ConfigError:
        # The shape of a generator that is not there must not stand in the way.
        model = _model_config(encoder, generator_width_fraction=1.0)
    weights = to_run_weights(encoder.weights, model_name, own_embeddings=False)
    return PretrainedRun(_config(encoder, model, objective), encoder.tokenizer, weights, missing)


def _pair(discriminator: PretrainedEncoder, generator: PretrainedEncoder) -> PretrainedRun:
    if discriminator.tokenizer.fingerprint != generator.tokenizer.fingerprint:
        raise UserError(
            f"{discriminator.source} and {generator.source} have different vocabularies. Give a pair that was trained together."
        )
    for name in ("embedding_dim", "max_positions"):
        ours, theirs = getattr(discriminator.size, name), getattr(generator.size, name)
        if ours != theirs:
            raise UserError(
                f"{discriminator.source} has {name} {ours} and its generator {theirs}; in a run both have the same. "
                "Import one of them alone, with --only discriminator or --only generator."
            )
    fractions = [
        fraction_between(*({name: getattr(encoder.size, name) for name in names} for encoder in (generator, discriminator)))
        for names in (WIDTHS, DEPTH)
    ]
    if None in fractions:
        raise UserError(
            f"The generator {generator.source} ({_shape(generator)}) is no fraction of the discriminator ({_shape(discriminator)}) "
            "in width or depth, which a run needs. Import one of them alone, with --only discriminator or --only generator."
        )
    model = _model_config(
        discriminator,
        generator_width_fraction=fractions[0],
        generator_depth_fraction=fractions[1],
        embedding_sharing="shared" if _share_embeddings(discriminator, generator) else "none",
    )
    weights: Arrays = {}
    for name, encoder in (("generator", generator), ("discriminator", discriminator)):
        weights |= to_run_weights(encoder.weights, name, own_embeddings=model.embedding_sharing == "none")
    missing = () if discriminator.head else ("detection head",)
    return PretrainedRun(_config(discriminator, model, "electra"), discriminator.tokenizer, weights, missing)


def _share_embeddings(first: PretrainedEncoder, second: PretrainedEncoder) -> bool:
    names = [name for name in first.weights if name.startswith("embeddings/")]
    return all(np.array_equal(first.weights[name], second.weights[name]) for name in names)


def _model_config(encoder: PretrainedEncoder, **generator: float | str) -> ModelConfig:
    size = {name: value for name, value in dataclasses.asdict(encoder.size).items() if name != "vocab_size"}
    return ModelConfig(**size, dropout=encoder.dropout, attention_dropout=encoder.attention_dropout, **generator)


def _config(encoder: PretrainedEncoder, model: ModelConfig, objective: str) -> Config:
    # No vocab_file: the run has its vocabulary beside it, and a path would hold on this machine alone.
    return Config(
        tokenizer=TokenizerConfig(vocab_size=max(32, encoder.size.vocab_size), **encoder.tokenizer.settings),
        packing=PackingConfig(sequence_length=min(model.max_positions, LONGEST_SEQUENCE)),
        model=model,
        objective=ObjectiveConfig(name=objective),
    )


def _shape(encoder: PretrainedEncoder) -> str:
    return ", ".join(f"{name} {getattr(encoder.size, name)}" for name in (*DEPTH, *WIDTHS))


def fitted_tokenizer(vocab: list[str], settings: dict[str, bool | None], vocab_size: int, source: str) -> WordPieceTokenizer:
    """Returns a tokenizer with as many entries as the model has rows.

    Some models have more rows than their vocabulary has entries, for a size that suits the hardware; the rows that no text
    reaches get names.

    Raises:
        UserError: the vocabulary has more entries than the model has rows, or cannot serve.
    """
    if len(vocab) > vocab_size:
        raise UserError(
            f"The vocabulary of {source} has {len(vocab)} entries and its word embeddings {vocab_size} rows. "
            "Give the vocabulary it was trained with."
        )
    known = set(vocab)
    candidates = (f"[unused_row_{number}]" for number in itertools.count(len(vocab)))
    rows = itertools.islice((name for name in candidates if name not in known), vocab_size - len(vocab))
    return WordPieceTokenizer([*vocab, *rows], **settings)
