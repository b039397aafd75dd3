"""What the original and Hugging Face call the weights that `layout` names.

Hugging Face's names came out of the original's by a conversion, so one table serves both.
"""

_TABLES = {"word": "word_embeddings", "position": "position_embeddings", "segment": "token_type_embeddings"}
_LAYER_MODULES = {
    "attention/query": "attention/self/query",
    "attention/key": "attention/self/key",
    "attention/value": "attention/self/value",
    "attention/output": "attention/output/dense",
    "attention_norm": "attention/output/LayerNorm",
    "intermediate": "intermediate/dense",
    "output": "output/dense",
    "output_norm": "output/LayerNorm",
}
_HEAD_MODULES = {
    "detection_head/dense": "discriminator_predictions/dense",
    "detection_head/prediction": "discriminator_predictions/dense_1",
    "masked_lm_head/dense": "generator_predictions/dense",
    "masked_lm_head/norm": "generator_predictions/LayerNorm",
}
_OUTPUT_BIAS = "generator_predictions/output_bias"
# Two modules got names of their own in Hugging Face's port.
_PORTED = {
    "discriminator_predictions.dense_1": "discriminator_predictions.dense_prediction",
    "generator_predictions.output_bias": "generator_lm_head.bias",
}
_PARAMETERS = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}


def original_name(name: str, scope: str = "electra", embeddings_scope: str = "electra") -> str:
    """Returns a weight's name in the original's TensorFlow 1 checkpoints (model/modeling.py, run_pretraining.py).

    Args:
        name: one of `EncoderSize.weight_shapes`.
        scope: "electra" for the discriminator's encoder, "generator" for the generator's.
        embeddings_scope: the same for the embeddings; "electra" where both share them, as they do by default.
    """
    module, _, parameter = name.rpartition("/")
    if name == "output_bias/bias":
        return _OUTPUT_BIAS
    if module in _HEAD_MODULES:
        return f"{_HEAD_MODULES[module]}/{parameter}"
    if module == "embeddings/norm":
        return f"{embeddings_scope}/embeddings/LayerNorm/{parameter}"
    if module.startswith("embeddings/"):
        return f"{embeddings_scope}/embeddings/{_TABLES[module.removeprefix('embeddings/')]}"
    if module == "embeddings_project":
        return f"{scope}/{name}"
    layer, _, inner = module.partition("/")
    return f"{scope}/encoder/{layer}/{_LAYER_MODULES[inner]}/{parameter}"


def huggingface_name(name: str) -> str:
    """Returns a weight's name in Hugging Face's state dictionaries, where matrices are (outputs, inputs).

    Args:
        name: one of `EncoderSize.weight_shapes`.
    """
    ported = original_name(name).replace("/layer_", "/layer/").replace("/", ".")
    for theirs, port in _PORTED.items():
        ported = ported.replace(theirs, port)
    module, _, last = ported.rpartition(".")
    return f"{module}.{_PARAMETERS[last]}" if last in _PARAMETERS else f"{ported}.weight"
