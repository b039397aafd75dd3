"""The configuration: one dataclass a YAML section; default, unit and range stand at the field, once.

`option` is the only way a field is declared, so `--help`, the checks and the YAML all read the same line.
Loading YAML files and command-line overrides into these classes lives in `electra_keras.config_loading`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from electra_keras.config_sections import Section, option
from electra_keras.errors import ConfigError

BUILTIN_PACKAGES = [
    "datasets",
    "grain",
    "huggingface_hub",
    "jax",
    "jsonargparse",
    "keras",
    "keras_hub",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "streamlit",
    "tensorflow",
]


@dataclasses.dataclass(frozen=True)
class CorpusConfig(Section):
    """Which text is read: files, or a data set on the hub, or else the built-in corpus.

    Where both files and a data set are set, as runs of earlier versions may have them, the files are read; commands refuse to start so.
    """

    files: list[str] = option([], "paths and globs of .txt, .jsonl, .parquet, each also .gz, .xz or .zst, from the current folder")
    hub: str | None = option(None, "data set on the Hugging Face hub, NAME or NAME:CONFIG")
    hub_split: str = option("train", "split of the hub data set")
    text_field: str = option("text", "field of .jsonl and .parquet rows and of hub data sets that holds the text")
    builtin_packages: list[str] = option(
        BUILTIN_PACKAGES, "import names of the packages whose docstrings, with the standard library's, are the built-in corpus"
    )
    validation_fraction: float = option(0.02, "share of documents held out, chosen by content hash", above=0, below=1)


@dataclasses.dataclass(frozen=True)
class TokenizerConfig(Section):
    """WordPiece, as in BERT."""

    vocab_file: str | None = option(None, "vocab.txt to load, from the current folder; without one the vocabulary is trained on the corpus")
    vocab_size: int = option(30522, "entries to train, special tokens included; unused with vocab_file", minimum=32, maximum=1_000_000)
    lowercase: bool = option(True, "fold case before splitting")
    strip_accents: bool | None = option(None, "remove accents; null follows lowercase, as in BERT")
    split_chinese: bool = option(True, "every Chinese character is a word of its own")
    min_frequency: int = option(2, "occurrences a pair needs to be merged in training", minimum=1)


@dataclasses.dataclass(frozen=True)
class PackingConfig(Section):
    """How documents become examples of fixed length."""

    sequence_length: int = option(128, "tokens an example, special tokens included", minimum=8)
    style: Literal["segments", "blocks"] = option(
        "segments", "segments: lines of one document, as in the original; blocks: contiguous text, without padding"
    )
    single_segment_prob: float = option(0.1, "chance that an example is [CLS] A [SEP], and not [CLS] A [SEP] B [SEP]", minimum=0, maximum=1)
    short_target_prob: float = option(0.05, "segments: chance that an example aims at a shorter random length", minimum=0, maximum=1)


@dataclasses.dataclass(frozen=True)
class MaskingRates(Section):
    """How one split is masked."""

    mask_prob: float = option(0.15, "share of the eligible tokens that the generator predicts", above=0, below=1)
    keep_prob: float = option(0.15, "share of those that keep their token in the generator's input instead of [MASK]", minimum=0, maximum=1)


@dataclasses.dataclass(frozen=True)
class MaskingConfig(Section):
    """Masking in training and, apart from it, in validation, so that recipes stay comparable."""

    train: MaskingRates = dataclasses.field(default_factory=MaskingRates)
    validation: MaskingRates = dataclasses.field(default_factory=MaskingRates)


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The discriminator's shape, and the generator's as fractions of it (paper, table 6)."""

    num_layers: int = option(12, "discriminator layers", minimum=1)
    hidden_dim: int = option(256, "width of the discriminator's token vectors", minimum=1)
    num_heads: int = option(4, "attention heads of the discriminator", minimum=1)
    intermediate_dim: int = option(1024, "width of the discriminator's feed-forward layers", minimum=1)
    embedding_dim: int = option(128, "width of the token embeddings that both encoders share", minimum=1)
    max_positions: int = option(512, "longest sequence the position embeddings serve, in tokens", minimum=8)
    generator_width_fraction: float = option(
        0.25, "generator hidden_dim, heads and intermediate_dim over the discriminator's", above=0, maximum=1
    )
    generator_depth_fraction: float = option(1.0, "generator layers over the discriminator's", above=0, maximum=1)
    dropout: float = option(0.1, "chance of zeroing a hidden unit in training", minimum=0, below=1)
    attention_dropout: float = option(0.1, "chance of zeroing an attention weight in training", minimum=0, below=1)
    embedding_sharing: Literal["shared", "disentangled", "none"] = option(
        "shared",
        "shared: one set of embeddings for both; none: each its own; disentangled: the discriminator adds a difference of its own "
        "and sends no gradient into the shared ones",
    )
    initialization: Literal["truncated_normal", "fan_in"] = option(
        "truncated_normal",
        "truncated_normal: standard deviation 0.02, and two matrices by Glorot's rule, as in the original; "
        "fan_in: matrices scaled by 1/sqrt(inputs)",
    )
    embedding_initialization: Literal["random", "pmi"] = option(
        "random", "pmi: word embeddings from an SVD of the corpus' positive PMI matrix"
    )
    attention_initialization: Literal["random", "neighbors"] = option(
        "random",
        "neighbors: positions start as sinusoids, and the discriminator's first-layer heads look at the nearest tokens",
    )
    output_bias_initialization: Literal["zeros", "unigram"] = option(
        "zeros", "unigram: the output biases start at log token frequencies and at the log-odds of a replacement"
    )
    init_from: str | None = option(None, "run directory whose weights the models start from")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_dim % self.num_heads:
            raise ConfigError(f"hidden_dim {self.hidden_dim} is not divisible by num_heads {self.num_heads}; choose a multiple.")
        generator = self.generator_shape()
        if generator["hidden_dim"] % generator["num_heads"]:
            raise ConfigError(
                f"generator_width_fraction {self.generator_width_fraction} makes a generator of hidden_dim {generator['hidden_dim']}, "
                f"not divisible by its num_heads {generator['num_heads']}; choose another fraction."
            )

    def discriminator_shape(self) -> dict[str, int]:
        """Returns num_layers, hidden_dim, num_heads and intermediate_dim of the discriminator, or of the encoder of `mlm`."""
        return {name: getattr(self, name) for name in ("num_layers", "hidden_dim", "num_heads", "intermediate_dim")}

    def generator_shape(self) -> dict[str, int]:
        """Returns the generator's sizes under the names of `discriminator_shape`, each at least 1."""
        fractions = {"num_layers": self.generator_depth_fraction}
        sizes = self.discriminator_shape().items()
        return {name: max(1, round(size * fractions.get(name, self.generator_width_fraction))) for name, size in sizes}


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig(Section):
    """What is learned."""

    name: Literal["electra", "mlm"] = option("electra", "electra: replaced-token detection; mlm: masked language modelling")
    generator_weight: float = option(1.0, "factor of the generator's loss", minimum=0)
    discriminator_weight: float = option(50.0, "factor of the detection loss (paper, section 3.3)", minimum=0)
    temperature: float = option(1.0, "divides the generator's logits before replacements are drawn", above=0)

    @property
    def detects(self) -> bool:
        """Whether there is a generator that replaces tokens, and a discriminator that tells which; known without loading keras."""
        return self.name == "electra"


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Section):
    """The original's AdamW, or Muon for the hidden matrices with AdamW for the rest."""

    name: Literal["adamw", "muon"] = option("adamw", "muon: hidden matrices by Muon, everything else by AdamW")
    learning_rate: float = option(5e-4, "AdamW's peak rate", above=0)
    warmup_steps: int = option(10_000, "steps of linear warmup", minimum=0)
    schedule: Literal["linear", "warmup_stable_decay"] = option(
        "linear",
        "linear: falls to 0 over all steps, times warmup, as in the original; warmup_stable_decay: flat, then falls over decay_fraction",
    )
    decay_fraction: float = option(0.3, "warmup_stable_decay: share of the steps over which the rate falls to 0", above=0, maximum=1)
    weight_decay: float = option(0.01, "decoupled decay, not on LayerNorm and bias", minimum=0)
    beta_1: float = option(0.9, "decay of AdamW's first moment", minimum=0, below=1)
    beta_2: float = option(0.999, "decay of AdamW's second moment", minimum=0, below=1)
    epsilon: float = option(1e-6, "added to the root of AdamW's second moment", above=0)
    bias_correction: bool = option(False, "divide AdamW's moments by 1 - beta^t; the original does not")
    clip_norm: float | None = option(1.0, "largest global norm of the gradient; null for no clipping", above=0)
    muon_learning_rate: float = option(0.02, "Muon's peak rate", above=0)
    muon_momentum: float = option(0.95, "Muon's momentum", minimum=0, below=1)
    generator_rate_multiplier: float = option(1.0, "factor on the rates of the generator's own weights", above=0)


@dataclasses.dataclass(frozen=True)
class TrainingConfig(Section):
    """How long, in what portions, and what is reported."""

    num_steps: int = option(1_000_000, "optimizer updates", minimum=1)
    batch_size: int = option(128, "examples an update", minimum=1)
    gradient_accumulation_steps: int = option(1, "parts in which an update's examples pass through the models", minimum=1)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = option("float32", "Keras dtype policy")
    seed: int = option(0, "seed of weights, order, masks, sampling and dropout", minimum=0)
    log_every_steps: int = option(100, "steps between lines of metrics.jsonl", minimum=1)
    validate_every_steps: int = option(10_000, "steps between validations", minimum=1)
    validation_examples: int = option(2_048, "held-out examples a validation reads, at most", minimum=1)
    checkpoint_every_steps: int = option(1_000, "steps between checkpoints", minimum=1)
    keep_checkpoints: int = option(2, "newest checkpoints kept", minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.gradient_accumulation_steps:
            raise ConfigError(
                f"batch_size {self.batch_size} is not divisible by gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}; choose a divisor."
            )


@dataclasses.dataclass(frozen=True)
class Config(Section):
    """A whole run."""

    recipe: Literal["paper", "modern"] = option("paper", "named set of defaults, which explicit fields override")
    backend: Literal["jax", "tensorflow", "torch"] | None = option(
        None, "Keras backend; --backend wins over KERAS_BACKEND, which wins over the configuration's backend"
    )
    corpus: CorpusConfig = dataclasses.field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=TokenizerConfig)
    packing: PackingConfig = dataclasses.field(default_factory=PackingConfig)
    masking: MaskingConfig = dataclasses.field(default_factory=MaskingConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packing.sequence_length > self.model.max_positions:
            raise ConfigError(
                f"packing.sequence_length {self.packing.sequence_length} is over model.max_positions {self.model.max_positions}; "
                "shorten the sequences or add positions."
            )


# Defaults that a recipe's name stands for. The paper's are the fields' own defaults (Clark et al. 2020, table 6).
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "modern": {
        "packing.style": "blocks",
        "model.dropout": 0.0,
        "model.attention_dropout": 0.0,
        "model.initialization": "fan_in",
        "model.embedding_initialization": "pmi",
        "model.attention_initialization": "neighbors",
        "model.output_bias_initialization": "unigram",
        "optimizer.name": "muon",
        "optimizer.learning_rate": 3e-3,
        "optimizer.warmup_steps": 30,
        "optimizer.beta_2": 0.99,
        "optimizer.epsilon": 1e-8,
        "optimizer.bias_correction": True,
        "optimizer.weight_decay": 0.0,
        "optimizer.clip_norm": None,
    },
}


def check_one_source(corpus: CorpusConfig) -> None:
    """Raises ConfigError where both files and a hub data set are set: only the files would be read."""
    # No part of the section's own check: runs that were started with both must stay readable.
    if corpus.files and corpus.hub is not None:
        raise ConfigError("corpus.files and corpus.hub are both set; set one.")


def to_dict(config: Section) -> dict[str, Any]:
    """Returns a section, or a whole configuration, as plain dictionaries, ready for YAML or JSON."""
    return dataclasses.asdict(config)
