"""The model: one frozen base, many LoRA adapters, decoding, log-probabilities and scalar heads."""
