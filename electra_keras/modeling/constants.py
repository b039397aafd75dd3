"""Numbers of the architecture that converters need as well; they load no keras."""

NUM_SEGMENTS = 2
LAYER_NORM_EPSILON = 1e-12
MASKED_SCORE = -1e9
"""Added to the score of padding: large enough that its weight is 0, finite so that a row of padding alone gives no NaN."""
