"""The models: embeddings, Transformer encoder, heads, and the functions that join them into Keras Functional models."""
