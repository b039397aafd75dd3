"""The commands that exchange models with other libraries and the hub: their options, and the upload."""

from collections.abc import Mapping
from typing import Any

from electra_keras.errors import ConfigError

_RUN = {"required": True, "metavar": "D", "help": "folder of the run"}
IMPORT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--from": {
        "required": True,
        "metavar": "SOURCE",
        "help": "folder of Hugging Face or KerasHub, checkpoint of the original, or a name on the hub (owner/name)",
    },
    "--run_dir": {"required": True, "metavar": "D", "help": "new folder for the run"},
    "--generator_from": {"metavar": "SOURCE", "help": "the generator, where it lies apart from the discriminator"},
    "--only": {"choices": ["discriminator", "generator"], "help": "leave the other one out"},
}
EXPORT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--run_dir": _RUN,
    "--to": {
        "required": True,
        "choices": ["huggingface", "keras_hub", "onnx", "onnx_int8", "saved_model", "litert"],
        "help": "the library, or the format of a detector for inference",
    },
    "--out_dir": {"required": True, "metavar": "D", "help": "new folder to write to"},
}
PUSH_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--run_dir": _RUN,
    "--repo": {"required": True, "metavar": "OWNER/NAME", "help": "repository on the Hugging Face hub; made where there is none"},
    "--private": {"type": bool, "nargs": "?", "const": True, "default": False, "help": "a new repository is visible to its owner alone"},
    "--license": {
        "default": "unknown",
        "metavar": "L",
        "help": "licence of the data, as the card states it: an identifier of the hub (cc-by-sa-4.0), or words",
    },
    "--data_description": {"metavar": "T", "help": "what the corpus is, for the card (default: what the configuration says)"},
}


def push(arguments: Mapping[str, Any]) -> None:
    """Uploads a run's models with a model card."""
    if not arguments["license"].strip():
        raise ConfigError("--license is empty. Name the licence of the data, or leave it out for 'unknown'.")

    from electra_keras.interop.sharing import push_run

    push_run(
        arguments["run_dir"],
        arguments["repo"],
        private=arguments["private"],
        license=arguments["license"],
        data_description=arguments.get("data_description"),
    )
