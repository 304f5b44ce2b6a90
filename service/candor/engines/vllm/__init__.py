"""The vLLM engine: the side that asks, and what runs in vLLM's own processes."""
