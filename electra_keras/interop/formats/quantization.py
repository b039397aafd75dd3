"""int8 for the ONNX detector: matrices and word embeddings in 8 bits, activations in 8 bits as they come (dynamic quantization)."""

import pathlib

import onnx

# LayerNorm, softmax, GELU and the attention's own products stay in float32; they have no weights worth shrinking.
OPERATORS = ("MatMul", "Gather")
# The last layer, whose one column is the result itself.
KEPT_IN_FLOAT = ("detection_head/prediction/product",)


def write_int8(model: onnx.ModelProto, path: pathlib.Path) -> None:
    """Writes an int8 version of the detector's graph; batch and length stay dynamic.

    Weights are quantized by column. On x86 the runtime's fast path for them needs VNNI (AVX-512 or AVX-VNNI): without it, sums of
    16 bits may saturate.

    Args:
        model: as `detector_graph` returns it.
        path: file to write.
    """
    # Imported late: it takes a second to load.
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    # The runtime's own pre-processing infers shapes and folds constants, which this graph does not need; unmarked, it is warned of.
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    add_pre_process_metadata(prepared)
    quantize_dynamic(
        prepared,
        path,
        op_types_to_quantize=[*OPERATORS],
        nodes_to_exclude=[*KEPT_IN_FLOAT],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
