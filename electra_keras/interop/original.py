"""The original's TensorFlow 1 checkpoints (google-research/electra, Chinese-ELECTRA), without the original's code.

A checkpoint holds both encoders under the names that their graph gave them, and Adam's moments. What it does not say is the
number of heads and whether text is lower-cased: a *discriminator*.json and a *generator*.json beside it are read where
they are, as Chinese-ELECTRA ships them; without them heads are 64 wide, as in every size the original defines
(run_pretraining.py, get_generator_config), and a vocabulary that spells "A" and "Z" is a cased one.
"""

import pathlib
import re
from collections.abc import Mapping

import numpy as np

from electra_keras.arrays import Arrays
from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.data.vocabulary import read_vocabulary
from electra_keras.errors import UserError
from electra_keras.interop.huggingface_tokenizer import SETTINGS, VOCABULARY, read_json, read_tokenizer
from electra_keras.interop.layout import EncoderSize, Head, Shape, check_names_and_shapes
from electra_keras.interop.pretrained import PretrainedEncoder, fitted_tokenizer
from electra_keras.interop.renaming import original_name

HEAD_WIDTH = 64
# The original's, for every size (model/modeling.py, BertConfig).
DROPOUT = 0.1
# The optimizer's moments and counters; nothing of the model.
TRAINING_STATE = re.compile(r".*/adam_[mv]$|^global_step$|^(.*/)?(beta[12]_power|Adam(_1)?)$")
PREDICTIONS: Mapping[Head, str] = {"detection": "discriminator_predictions/", "masked_lm": "generator_predictions/"}


def find_checkpoint(path: pathlib.Path) -> pathlib.Path | None:
    """Returns the prefix of a checkpoint: the one that `path` names, or the newest in a folder; None where there is none."""
    if path.suffix in (".index", ".meta"):
        path = path.with_suffix("")
    # The current folder, ".", has no name.
    if path.name and path.with_name(f"{path.name}.index").is_file():
        return path
    found = [index.with_suffix("") for index in path.glob("*.index")] if path.is_dir() else []
    return max(found, key=lambda prefix: (_step(prefix), prefix.name), default=None)


def read_encoders(prefix: pathlib.Path) -> list[PretrainedEncoder]:
    """Reads the discriminator and, where the checkpoint has one of its own, the generator.

    Args:
        prefix: the checkpoint's path without .index; vocab.txt lies beside it.

    Raises:
        UserError: the files are damaged or not the original's, or a variable is missing or of another shape.
    """
    variables = _read_variables(prefix)
    shapes = {name: array.shape for name, array in variables.items()}
    if "electra/embeddings/word_embeddings" not in shapes:
        raise UserError(
            f"{prefix} has no variable electra/embeddings/word_embeddings (it has {', '.join(sorted(shapes)[:3])}, ...), "
            "so it is no pre-training checkpoint of the original ELECTRA."
        )
    tokenizer = _tokenizer(prefix, shapes["electra/embeddings/word_embeddings"][0])
    heads = _heads(shapes)
    wanted: dict[str, Shape] = {}
    encoders = []
    for scope, head in heads.items():
        embeddings_scope = scope if f"{scope}/embeddings/word_embeddings" in shapes else "electra"
        size = _size(shapes, scope, embeddings_scope, prefix)
        names = {name: original_name(name, scope, embeddings_scope) for name in size.weight_shapes(head)}
        wanted |= {names[name]: shape for name, shape in size.weight_shapes(head).items()}
        weights = {name: variables[theirs] for name, theirs in names.items() if theirs in variables}
        encoders.append(PretrainedEncoder(size, head, weights, tokenizer, DROPOUT, DROPOUT, f"{prefix} ({scope})"))
    unused = () if "masked_lm" in heads.values() else (PREDICTIONS["masked_lm"],)
    check_names_and_shapes({name: shape for name, shape in shapes.items() if not name.startswith(unused)}, wanted, str(prefix))
    return encoders


def _heads(shapes: Mapping[str, Shape]) -> dict[str, Head]:
    """Returns the encoders by their scopes, and what each is used for."""
    if any(name.startswith("generator/encoder/") for name in shapes):
        return {"electra": "detection", "generator": "masked_lm"}
    # Trained on BERT's objective there is no discriminator. With all weights tied, or a uniform generator, there is no encoder
    # of the generator's own, and its head alone is of no use.
    detects = any(name.startswith(PREDICTIONS["detection"]) for name in shapes)
    return {"electra": "detection" if detects else "masked_lm"}


def _read_variables(prefix: pathlib.Path) -> Arrays:
    # Imported late: it takes seconds to load, and only here it is asked for.
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = [name for name in reader.get_variable_to_shape_map() if not TRAINING_STATE.match(name)]
        return {name: np.asarray(reader.get_tensor(name)) for name in names}
    # TensorFlow's reader answers a file that is cut short by whatever its status code happens to map to, IndexError for one.
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"{prefix} cannot be read as a TensorFlow checkpoint ({reason}). Fetch its .index and .data files again."
        ) from error


def _size(shapes: Mapping[str, Shape], scope: str, embeddings_scope: str, prefix: pathlib.Path) -> EncoderSize:
    """Reads an encoder's size off its variables' shapes."""

    def dimension(name: str, axis: int) -> int:
        if len(shapes.get(name, ())) != 2:
            raise UserError(f"{prefix} has no matrix {name}, so the model's size cannot be told. Fetch it again.")
        return int(shapes[name][axis])

    layers = {match[1] for name in shapes if (match := re.match(rf"{scope}/encoder/layer_(\d+)/", name))}
    hidden_dim = dimension(f"{scope}/encoder/layer_0/attention/self/query/kernel", 1)
    return EncoderSize(
        vocab_size=dimension(f"{embeddings_scope}/embeddings/word_embeddings", 0),
        embedding_dim=dimension(f"{embeddings_scope}/embeddings/word_embeddings", 1),
        max_positions=dimension(f"{embeddings_scope}/embeddings/position_embeddings", 0),
        num_layers=len(layers),
        hidden_dim=hidden_dim,
        num_heads=_num_heads(prefix.parent, scope, hidden_dim),
        intermediate_dim=dimension(f"{scope}/encoder/layer_0/intermediate/dense/kernel", 1),
    )


def _num_heads(folder: pathlib.Path, scope: str, hidden_dim: int) -> int:
    role = "generator" if scope == "generator" else "discriminator"
    given = [read_json(path).get("num_attention_heads") for path in sorted(folder.glob(f"*{role}*.json"))]
    given = [number for number in given if isinstance(number, int)]
    # The original gives a generator narrower than one head a single one.
    num_heads = given[0] if given else max(1, hidden_dim // HEAD_WIDTH)
    unusual = not given and hidden_dim % HEAD_WIDTH and role == "discriminator"
    if unusual or num_heads < 1 or hidden_dim % num_heads:
        raise UserError(
            f"The {role} in {folder} is {hidden_dim} wide, which does not tell its number of attention heads. Write "
            f'{{"num_attention_heads": N}} to {folder / f"{role}_config.json"}.'
        )
    return num_heads


def _tokenizer(prefix: pathlib.Path, vocab_size: int) -> WordPieceTokenizer:
    # The original trains in DATA_DIR/models/NAME and has its vocabulary in DATA_DIR.
    folders = [folder for folder in (prefix.parent, *prefix.absolute().parents[1:3]) if (folder / VOCABULARY).is_file()]
    if not folders:
        raise UserError(f"There is no {VOCABULARY} beside {prefix}. Put the vocabulary that it was trained with there.")
    if (folders[0] / SETTINGS).is_file():
        vocab, settings = read_tokenizer(folders[0])
    else:
        vocab = read_vocabulary(folders[0] / VOCABULARY)
        settings = {"lowercase": not {"A", "Z"} <= set(vocab), "strip_accents": None, "split_chinese": True}
    return fitted_tokenizer(vocab, settings, vocab_size, str(prefix))


def _step(prefix: pathlib.Path) -> int:
    digits = prefix.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1
