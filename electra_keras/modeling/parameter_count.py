"""Number of weights of a model, by arithmetic: nothing is allocated, and keras is not loaded."""

from electra_keras.config import ModelConfig


def parameter_count(config: ModelConfig, vocab_size: int, model: str = "discriminator") -> int:
    """Counts the weights of one model, its embeddings included.

    Args:
        config: the shape; embedding_sharing does not matter for a model by itself, except that "disentangled" gives the
            discriminator a second set of embeddings beside the generator's.
        vocab_size: number of token ids.
        model: "discriminator", "generator" or "encoder" (the discriminator's size with the generator's head, for `mlm`).

    Raises:
        ValueError: another model.
    """
    if model == "generator":
        shape = config.generator_shape()
    elif model in ("discriminator", "encoder"):
        shape = {name: getattr(config, name) for name in ("num_layers", "hidden_dim", "intermediate_dim")}
    else:
        raise ValueError(f"No model is called {model}; there are discriminator, generator and encoder.")
    hidden, intermediate = shape["hidden_dim"], shape["intermediate_dim"]
    count = _embeddings(config, vocab_size)
    if config.embedding_dim != hidden:
        count += _dense(config.embedding_dim, hidden)
    count += shape["num_layers"] * _layer(hidden, intermediate)
    if model == "discriminator":
        twice = config.embedding_sharing == "disentangled"
        return count + _dense(hidden, hidden) + _dense(hidden, 1) + (_embeddings(config, vocab_size) if twice else 0)
    return count + _dense(hidden, config.embedding_dim) + _norm(config.embedding_dim) + vocab_size


def _embeddings(config, vocab_size):
    num_segments = 2
    return (vocab_size + config.max_positions + num_segments) * config.embedding_dim + _norm(config.embedding_dim)


def _layer(hidden, intermediate):
    attention = _dense(hidden, 3 * hidden) + _dense(hidden, hidden)
    return attention + _dense(hidden, intermediate) + _dense(intermediate, hidden) + 2 * _norm(hidden)


def _dense(inputs, outputs):
    return (inputs + 1) * outputs


def _norm(dim):
    return 2 * dim
