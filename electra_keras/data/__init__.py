"""Raw text to batches; never imports keras."""
