"""The sizes of the paper (Clark et al. 2020, table 6)."""

from collections.abc import Mapping
from types import MappingProxyType

from electra_keras.config import ModelConfig

PRESETS: Mapping[str, ModelConfig] = MappingProxyType(
    {
        "small": ModelConfig(
            num_layers=12,
            hidden_dim=256,
            num_heads=4,
            intermediate_dim=1024,
            embedding_dim=128,
            generator_width_fraction=1 / 4,
        ),
        "base": ModelConfig(
            num_layers=12,
            hidden_dim=768,
            num_heads=12,
            intermediate_dim=3072,
            embedding_dim=768,
            generator_width_fraction=1 / 3,
        ),
        "large": ModelConfig(
            num_layers=24,
            hidden_dim=1024,
            num_heads=16,
            intermediate_dim=4096,
            embedding_dim=1024,
            generator_width_fraction=1 / 4,
        ),
    }
)
