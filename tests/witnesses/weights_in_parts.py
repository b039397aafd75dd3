"""Weights split over several files with an index, in safetensors and as PyTorch saves them."""

import json

import torch
from safetensors.torch import load_file, save_file

PARTS = 3


def split_weights(folder, kind):
    """Replaces a folder's model.safetensors by `PARTS` files of a kind, "safetensors" or "bin", and their index; returns its path."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names = sorted(tensors)
    weight_map = {}
    for number in range(PARTS):
        file = f"{stem}-{number + 1:05}-of-{PARTS:05}.{kind}"
        part = {name: tensors[name] for name in names[number::PARTS]}
        if kind == "safetensors":
            save_file(part, folder / file, metadata={"format": "pt"})
        else:
            torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = folder / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index
