"""The model: one frozen base, LoRA adapters, batched decoding, log-probabilities, scalar heads."""
