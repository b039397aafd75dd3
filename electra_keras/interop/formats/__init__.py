"""The detector as files for inference: ONNX as the reference, and what Keras' own `Model.export` gives."""
