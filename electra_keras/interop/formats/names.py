"""What the detector's inputs and output are called in every format."""

# int32 (batch, length): ids; 0 or 1; 1 = real.
INPUTS = ("token_ids", "segment_ids", "padding_mask")
# float32 (batch, length): P(replaced), meaningless at padding.
OUTPUT = "probabilities"
