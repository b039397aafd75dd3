"""The tokenizer of a Hugging Face directory: read from vocab.txt or tokenizer.json, written as vocab.txt."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from electra_keras.data.tokenizer import WordPieceTokenizer
from electra_keras.data.vocabulary import CONTINUATION, check_vocabulary, read_vocabulary
from electra_keras.errors import UserError
from electra_keras.files import write_json

VOCABULARY, FAST, SETTINGS = "vocab.txt", "tokenizer.json", "tokenizer_config.json"
# Our name of a setting -> its name in tokenizer_config.json and in tokenizer.json's normalizer.
NAMES = {
    "lowercase": ("do_lower_case", "lowercase"),
    "strip_accents": ("strip_accents", "strip_accents"),
    "split_chinese": ("tokenize_chinese_chars", "handle_chinese_chars"),
}
DEFAULTS = {"lowercase": True, "strip_accents": None, "split_chinese": True}
# Classes that cut text as BERT does; others (Japanese with a morphological analyser, SentencePiece) cannot be imitated.
CLASSES = ("", "ElectraTokenizer", "BertTokenizer", "PreTrainedTokenizer", "TokenizersBackend")


def read_tokenizer(folder: pathlib.Path) -> tuple[list[str], dict[str, bool | None]]:
    """Reads a WordPiece vocabulary and how text is split.

    Returns:
        The entries in the order of their ids, and the settings of `WordPieceTokenizer`.

    Raises:
        UserError: there is no vocabulary, or the text is cut in a way that is not BERT's.
    """
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    fast = read_json(folder / FAST) if (folder / FAST).is_file() else {}
    name = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
    if name not in CLASSES or settings.get("do_basic_tokenize") is False:
        how = name if name not in CLASSES else "a tokenizer without splitting into words (do_basic_tokenize false)"
        raise UserError(f"{folder} uses {how}. Only tokenizers that cut text as BERT's WordPiece does can be imported.")
    if (folder / VOCABULARY).is_file():
        vocab = read_vocabulary(folder / VOCABULARY)
    elif fast:
        vocab = _fast_vocabulary(fast, folder / FAST)
    else:
        raise UserError(f"{folder} has neither {VOCABULARY} nor {FAST}. Save the tokenizer there too.")
    return vocab, _settings(settings, fast, folder / FAST)


def write_tokenizer(tokenizer: WordPieceTokenizer, max_length: int, folder: pathlib.Path) -> None:
    """Writes vocab.txt and tokenizer_config.json for transformers, which cuts a text at max_length tokens where it is asked to."""
    tokenizer.save(folder)
    write_json(folder / SETTINGS, {**read_json(folder / SETTINGS), "model_max_length": max_length})


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        UserError: the file is missing or is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}. Fetch it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no JSON object. Fetch it again.")
    return content


def _fast_vocabulary(fast: Mapping[str, Any], path: pathlib.Path) -> list[str]:
    model = fast.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) and model.get("type", "WordPiece") == "WordPiece" else None
    if not isinstance(vocab, dict) or model.get("continuing_subword_prefix", CONTINUATION) != CONTINUATION:
        raise UserError(f"{path} holds no WordPiece vocabulary with {CONTINUATION!r} inside words. Only BERT's WordPiece can be imported.")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise UserError(f"The ids in {path} are not 0 to {len(vocab) - 1}. Fetch it again.")
    entries = sorted(vocab, key=vocab.__getitem__)
    check_vocabulary(entries, str(path))
    return entries


def _settings(settings: Mapping[str, Any], fast: Mapping[str, Any], path: pathlib.Path) -> dict[str, bool | None]:
    normalizer = fast.get("normalizer") or {}
    if fast and normalizer.get("type") != "BertNormalizer":
        raise UserError(f"{path} has the normalizer {normalizer.get('type')}, and not BERT's. Such a tokenizer cannot be imported.")
    # tokenizer_config.json wins, as it does in transformers.
    values = {ours: settings.get(first, normalizer.get(second, DEFAULTS[ours])) for ours, (first, second) in NAMES.items()}
    for ours, value in values.items():
        if not isinstance(value, bool) and not (value is None and ours == "strip_accents"):
            raise UserError(f"{path.parent}: {NAMES[ours][0]} is {value!r}; it must be true or false.")
    return values
