"""Pairs of transformers' ELECTRA models with random weights, saved as their own save_pretrained saves them."""

import dataclasses

import torch
import transformers

from electra_keras.data.tokenizer import WordPieceTokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
INPUTS = {"input_ids": "token_ids", "token_type_ids": "segment_ids", "attention_mask": "padding_mask"}
POSITIONS = 16


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of a discriminator, and of its generator where they differ."""

    vocab_size: int
    embedding_dim: int
    layers: int
    hidden: int
    heads: int
    wide: int
    generator_layers: int
    generator_hidden: int
    generator_heads: int
    generator_wide: int
    shared: bool = True


# Embeddings narrower than both, as wide as both, and wider than the generator; odd numbers of heads; embeddings of its own.
SHAPES = {
    "narrow embeddings, 3 heads": Shape(11, 6, 2, 12, 3, 20, 2, 8, 2, 13),
    "embeddings as wide as both, 1 head": Shape(23, 8, 1, 8, 1, 24, 1, 8, 1, 24),
    "embeddings between, 3 heads, none shared": Shape(57, 16, 3, 24, 3, 40, 2, 8, 1, 13, shared=False),
}


def vocabulary(size):
    """Returns the special tokens and made-up words, some of which continue others."""
    return [*SPECIAL, *(f"##{index}" if index % 3 == 0 else f"w{index}" for index in range(size - len(SPECIAL)))]


def build_pair(shape, seed=0):
    """Returns transformers' discriminator and generator, every weight random, without dropout."""
    sizes = {"vocab_size": shape.vocab_size, "embedding_size": shape.embedding_dim, "max_position_embeddings": POSITIONS}
    sizes |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    large = dict(zip(names, (shape.layers, shape.hidden, shape.heads, shape.wide), strict=True))
    values = (shape.generator_layers, shape.generator_hidden, shape.generator_heads, shape.generator_wide)
    small = dict(zip(names, values, strict=True))
    discriminator = transformers.ElectraForPreTraining(transformers.ElectraConfig(**sizes, **large))
    generator = transformers.ElectraForMaskedLM(transformers.ElectraConfig(**sizes, **small))
    for offset, model in enumerate((discriminator, generator)):
        randomize(model.eval(), seed + offset)
    if shape.shared:
        generator.electra.embeddings.load_state_dict(discriminator.electra.embeddings.state_dict())
    return discriminator, generator


def randomize(model, seed):
    """Gives every weight a value away from its initial one, biases and LayerNorms too; matrices keep the scale of their inputs."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            scale = parameter.shape[1] ** -0.5 if parameter.ndim == 2 else 0.3
            parameter.copy_(centre + scale * torch.randn(parameter.shape, generator=random))


def save(model, folder, **settings):
    """Saves a model with a tokenizer of its vocabulary's size; returns the folder."""
    model.save_pretrained(folder)
    WordPieceTokenizer(vocabulary(model.config.vocab_size), **settings).save(folder)
    return folder


def save_pair(shape, folder, **settings):
    """Saves a pair as discriminator/ and generator/; returns both models."""
    discriminator, generator = build_pair(shape)
    save(discriminator, folder / "discriminator", **settings)
    save(generator, folder / "generator", **settings)
    return discriminator, generator


def inputs_of(batch):
    """Returns a batch under transformers' names, as tensors."""
    return {theirs: torch.tensor(batch[ours], dtype=torch.long) for theirs, ours in INPUTS.items()}
