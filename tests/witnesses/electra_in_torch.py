"""ELECTRA once more, written from the paper and the original's formulas in plain PyTorch, sharing no code with the package.

It reads weights by their structural names, so that both start from the same numbers.
"""

import math

import torch
import torch.nn.functional as F


def tensors(arrays):
    return {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in arrays.items()}


def norm(x, weights, name):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}/gamma"], weights[f"{name}/beta"], eps=1e-12)


def linear(x, weights, name):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def embed(weights, token_ids, segment_ids):
    summed = (
        weights["embeddings/word/embeddings"][token_ids]
        + weights["embeddings/position/embeddings"][: token_ids.shape[1]]
        + weights["embeddings/segment/embeddings"][segment_ids]
    )
    return norm(summed, weights, "embeddings/norm")


def attention(x, weights, name, padding_mask, num_heads):
    batch, length, width = x.shape
    query, key, value = linear(x, weights, f"{name}/qkv").split(width, dim=-1)

    def heads(t):
        return t.reshape(batch, length, num_heads, width // num_heads).transpose(1, 2)

    scores = heads(query) @ heads(key).transpose(-1, -2) / math.sqrt(width // num_heads)
    scores = scores.masked_fill(padding_mask[:, None, None, :] == 0, -math.inf)
    mixed = (scores.softmax(-1) @ heads(value)).transpose(1, 2).reshape(batch, length, width)
    return linear(mixed, weights, f"{name}/output")


def encode(weights, model, token_ids, segment_ids, padding_mask, num_layers, num_heads):
    x = embed(weights, token_ids, segment_ids)
    if f"{model}/embeddings_project/kernel" in weights:
        x = linear(x, weights, f"{model}/embeddings_project")
    for index in range(num_layers):
        layer = f"{model}/layer_{index}"
        x = norm(x + attention(x, weights, f"{layer}/attention", padding_mask, num_heads), weights, f"{layer}/attention_norm")
        wide = F.gelu(linear(x, weights, f"{layer}/intermediate"))
        x = norm(x + linear(wide, weights, f"{layer}/output"), weights, f"{layer}/output_norm")
    return x


def losses(weights, batch, sampled_ids, num_layers, generator_heads, heads):
    """Returns the mean generator and detection losses; `batch` holds torch tensors under the names of the package's Batch."""
    hidden = encode(weights, "generator", batch["token_ids"], batch["segment_ids"], batch["padding_mask"], num_layers, generator_heads)
    rows = torch.arange(hidden.shape[0])[:, None]
    picked = hidden[rows, batch["mask_positions"]]
    picked = norm(F.gelu(linear(picked, weights, "generator/masked_lm_head/dense")), weights, "generator/masked_lm_head/norm")
    logits = picked @ weights["embeddings/word/embeddings"].T + weights["generator/output_bias/bias"]
    nll = F.cross_entropy(logits.transpose(1, 2), batch["original_ids"], reduction="none")
    generator_loss = (nll * batch["mask_weights"]).sum() / batch["mask_weights"].sum()

    corrupted, replaced = batch["token_ids"].clone(), torch.zeros_like(batch["token_ids"])
    for row in range(corrupted.shape[0]):
        for column in range(sampled_ids.shape[1]):
            if batch["mask_weights"][row, column]:
                position = batch["mask_positions"][row, column]
                corrupted[row, position] = sampled_ids[row, column]
                replaced[row, position] = sampled_ids[row, column] != batch["original_ids"][row, column]
    hidden = encode(weights, "discriminator", corrupted, batch["segment_ids"], batch["padding_mask"], num_layers, heads)
    scores = linear(
        F.gelu(linear(hidden, weights, "discriminator/detection_head/dense")), weights, "discriminator/detection_head/prediction"
    )
    bce = F.binary_cross_entropy_with_logits(scores[..., 0], replaced.double(), reduction="none")
    detection_loss = (bce * batch["padding_mask"]).sum() / batch["padding_mask"].sum()
    return generator_loss, detection_loss


class OriginalAdamW:
    """The original's optimizer (model/optimization.py): no bias correction, decoupled decay, clipping by global norm."""

    def __init__(self, weights, peak, warmup_steps, num_steps):
        self.weights, self.peak, self.warmup_steps, self.num_steps = weights, peak, warmup_steps, num_steps
        self.m = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.v = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.step = 0

    def apply(self, loss):
        gradients = dict(zip(self.weights, torch.autograd.grad(loss, list(self.weights.values())), strict=True))
        total = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients.values()))
        rate = self.peak * (1 - self.step / self.num_steps) * min(1.0, self.step / self.warmup_steps)
        with torch.no_grad():
            for name, weight in self.weights.items():
                gradient = gradients[name] * min(1.0, 1.0 / total)
                self.m[name] = 0.9 * self.m[name] + 0.1 * gradient
                self.v[name] = 0.999 * self.v[name] + 0.001 * gradient**2
                update = self.m[name] / (self.v[name].sqrt() + 1e-6)
                if not name.endswith(("gamma", "beta", "bias")):
                    update = update + 0.01 * weight
                weight -= rate * update
        self.step += 1
