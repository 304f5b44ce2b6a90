"""What runs the forward pass and reads the probes in it: packed, padded or vLLM."""
