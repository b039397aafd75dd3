"""The commands that exchange models with other libraries and the hub: their options, and what they run."""

from collections.abc import Mapping
from typing import Any

from electra_keras.errors import ConfigError
from electra_keras.process import prepare_backend

FINISHED_RUN = {"required": True, "metavar": "D", "help": "a run's folder, or its name under runs/"}
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
    "--run_dir": FINISHED_RUN,
    "--to": {
        "required": True,
        "choices": ["huggingface", "keras_hub", "onnx", "onnx_int8", "saved_model", "litert"],
        "help": "the library, or the format of a detector for inference",
    },
    "--out_dir": {"required": True, "metavar": "D", "help": "new folder to write to"},
}
PUSH_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--run_dir": FINISHED_RUN,
    "--repo": {"required": True, "metavar": "OWNER/NAME", "help": "repository on the Hugging Face hub; made where there is none"},
    "--private": {"type": bool, "nargs": "?", "const": True, "default": False, "help": "a new repository is visible to its owner alone"},
    "--license": {
        "default": "unknown",
        "metavar": "L",
        "help": "licence of the data, as the card states it: an identifier of the hub (cc-by-sa-4.0), or words",
    },
    "--data_description": {"metavar": "T", "help": "what the corpus is, for the card (default: what the configuration says)"},
}


def import_model(arguments: Mapping[str, Any]) -> None:
    """Makes a run directory of a model from elsewhere."""
    from electra_keras.interop.importing import import_run

    prepare_backend(None, None)
    import_run(arguments["from"], arguments["run_dir"], generator_from=arguments.get("generator_from"), only=arguments.get("only"))


def export(arguments: Mapping[str, Any]) -> None:
    """Writes a run's models in another library's layout."""
    from electra_keras.detector import run_folder
    from electra_keras.interop.exporting import export_run

    prepare_backend(None, None)
    export_run(run_folder(arguments["run_dir"]), arguments["to"], arguments["out_dir"])


def push(arguments: Mapping[str, Any]) -> None:
    """Uploads a run's models with a model card."""
    if not arguments["license"].strip():
        raise ConfigError("--license is empty. Name the licence of the data, or leave it out for 'unknown'.")

    from electra_keras.detector import run_folder
    from electra_keras.interop.sharing import push_run

    push_run(
        run_folder(arguments["run_dir"]),
        arguments["repo"],
        private=arguments["private"],
        license=arguments["license"],
        data_description=arguments.get("data_description"),
    )
