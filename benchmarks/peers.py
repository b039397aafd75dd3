"""The loops that people write around Hugging Face's ELECTRA: what ours is compared with.

Both models share their embeddings; the generator's samples replace the masked tokens; the loss is the generator's plus 50 times the
discriminator's; AdamW and clipping to norm 1. Hugging Face has no such trainer, so the loop is written as its users do.
"""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from accelerator import torch_device
from shapes import Shape
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from electra_keras.data.masking import Batch

DETECTION_WEIGHT = 50.0
LEARNING_RATE = 5e-4


@dataclasses.dataclass(frozen=True)
class Peer:
    """One way to write the loop.

    Attributes:
        gathered: logits at masked positions alone, which Hugging Face's own head does not offer.
        compiled: torch.compile around both models.
        fused: AdamW's fused kernel, in place of a loop over parameters.
    """

    gathered: bool = False
    compiled: bool = False
    fused: bool = False


PEERS = {
    "hf": Peer(),
    "hf_compile": Peer(compiled=True),
    "hf_gathered": Peer(gathered=True, fused=True),
    "hf_gathered_compile": Peer(gathered=True, compiled=True, fused=True),
}


def build_step(name: str, shape: Shape, precision: str) -> Callable[[Batch], float]:
    """Returns a function that makes one optimizer update and leaves nothing running.

    Args:
        name: one of PEERS.
        shape: the models' and the batch's size.
        precision: "float32", or "mixed_bfloat16" for autocast.
    """
    peer = PEERS[name]
    torch.manual_seed(0)
    device = torch_device()
    generator, discriminator = (model.to(device) for model in build_models(shape))
    optimizer = build_optimizer(generator, discriminator, peer.fused)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    losses = torch.compile(gathered_losses if peer.gathered else usual_losses) if peer.compiled else None
    losses = losses or (gathered_losses if peer.gathered else usual_losses)

    def step(batch: Batch) -> float:
        tensors = [tensor.to(device) for tensor in to_tensors(batch)]
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            loss = losses(generator, discriminator, *tensors)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.item()

    return step


def build_models(shape: Shape) -> tuple[ElectraForMaskedLM, ElectraForPreTraining]:
    """Builds generator and discriminator with one set of embeddings."""
    model = shape.model
    common = {
        "vocab_size": shape.vocab_size,
        "embedding_size": model.embedding_dim,
        "max_position_embeddings": model.max_positions,
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.attention_dropout,
    }

    def config(num_layers: int, hidden_dim: int, num_heads: int, intermediate_dim: int) -> ElectraConfig:
        return ElectraConfig(
            num_hidden_layers=num_layers,
            hidden_size=hidden_dim,
            num_attention_heads=num_heads,
            intermediate_size=intermediate_dim,
            **common,
        )

    generator = ElectraForMaskedLM(config(**model.generator_shape()))
    discriminator = ElectraForPreTraining(config(model.num_layers, model.hidden_dim, model.num_heads, model.intermediate_dim))
    discriminator.electra.embeddings = generator.electra.embeddings
    generator.tie_weights()
    return generator.train(), discriminator.train()


def build_optimizer(generator: torch.nn.Module, discriminator: torch.nn.Module, fused: bool) -> torch.optim.AdamW:
    """Returns AdamW without decay on LayerNorm and bias, every shared parameter once."""
    named = {id(p): (name, p) for module in (generator, discriminator) for name, p in module.named_parameters()}
    decayed = [p for name, p in named.values() if "LayerNorm" not in name and not name.endswith("bias")]
    kept = [p for name, p in named.values() if "LayerNorm" in name or name.endswith("bias")]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, eps=1e-6, fused=fused or None)


def to_tensors(batch: Batch) -> tuple[torch.Tensor, ...]:
    """Returns input ids, segment ids, attention mask, mask positions, original ids and prediction weights."""
    x, original_ids, weights = batch
    arrays = (x["token_ids"], x["segment_ids"], x["padding_mask"], x["mask_positions"], original_ids)
    return (*(torch.from_numpy(array).long() for array in arrays), torch.from_numpy(weights))


def usual_losses(generator, discriminator, input_ids, segment_ids, attention_mask, positions, original_ids, weights):
    """Logits and cross-entropy at all positions, -100 where nothing was masked: Hugging Face's own head and loss."""
    real = weights > 0
    rows = torch.arange(len(input_ids), device=input_ids.device)[:, None].expand_as(positions)
    # All rows are of full length, so no prediction is padding; with padding a loop would index with `real` first.
    labels = torch.full_like(input_ids, -100).index_put((rows, positions), torch.where(real, original_ids, -100))
    output = generator(input_ids=input_ids, token_type_ids=segment_ids, attention_mask=attention_mask, labels=labels)
    sampled = draw(output.logits.detach()[rows, positions])
    return output.loss + detection_loss(discriminator, input_ids, segment_ids, attention_mask, rows, positions, original_ids, sampled)


def gathered_losses(generator, discriminator, input_ids, segment_ids, attention_mask, positions, original_ids, weights):
    """The generator's head applied to the masked positions alone."""
    hidden = generator.electra(input_ids=input_ids, token_type_ids=segment_ids, attention_mask=attention_mask).last_hidden_state
    rows = torch.arange(len(input_ids), device=input_ids.device)[:, None].expand_as(positions)
    logits = generator.generator_lm_head(generator.generator_predictions(hidden[rows, positions]))
    nll = F.cross_entropy(logits.flatten(0, 1).float(), original_ids.flatten(), reduction="none")
    loss = (nll * weights.flatten()).sum() / weights.sum()
    sampled = draw(logits.detach())
    return loss + detection_loss(discriminator, input_ids, segment_ids, attention_mask, rows, positions, original_ids, sampled)


def draw(logits: torch.Tensor) -> torch.Tensor:
    """Draws a token for every position by torch.multinomial."""
    probabilities = logits.float().softmax(-1)
    return torch.multinomial(probabilities.flatten(0, -2), 1).view(probabilities.shape[:-1])


def detection_loss(discriminator, input_ids, segment_ids, attention_mask, rows, positions, original_ids, sampled):
    """Writes the samples into the input and scores every token; weighted."""
    original = input_ids.index_put((rows, positions), original_ids)
    corrupted = input_ids.index_put((rows, positions), sampled)
    labels = (corrupted != original).long()
    output = discriminator(input_ids=corrupted, token_type_ids=segment_ids, attention_mask=attention_mask, labels=labels)
    return DETECTION_WEIGHT * output.loss
