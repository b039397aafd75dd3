"""Hugging Face's directories, read and written without transformers.

Written is what transformers' classes open as it is:

    discriminator/   ElectraForPreTraining
    generator/       ElectraForMaskedLM
    encoder/         ElectraModel: the discriminator without its head, to fine-tune from
    each with config.json, model.safetensors, vocab.txt, tokenizer_config.json, special_tokens_map.json
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from electra_keras.artifacts import Arrays, save_arrays
from electra_keras.data.vocabulary import SPECIAL_TOKENS
from electra_keras.errors import UserError
from electra_keras.files import write_json
from electra_keras.interop.huggingface_tokenizer import read_tokenizer
from electra_keras.interop.layout import NUM_SEGMENTS, EncoderSize, Head, check_names_and_shapes
from electra_keras.interop.pretrained import PretrainedEncoder, fitted_tokenizer
from electra_keras.interop.renaming import huggingface_name
from electra_keras.interop.tensor_files import SAFETENSORS, read_tensors
from electra_keras.modeling.embeddings import LAYER_NORM_EPSILON

CONFIG = "config.json"
ARCHITECTURES: Mapping[Head | None, str] = {"detection": "ElectraForPreTraining", "masked_lm": "ElectraForMaskedLM", None: "ElectraModel"}
# Our name of a size -> Hugging Face's.
SIZES = {
    "vocab_size": "vocab_size",
    "embedding_dim": "embedding_size",
    "max_positions": "max_position_embeddings",
    "num_layers": "num_hidden_layers",
    "hidden_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_dim": "intermediate_size",
}
