"""vLLM's pooling routes: `texts.py` for single texts, `pairs.py` for pairs and rankings;
`bodies.py` and `encoded.py` hold what they share. Read from vllm/entrypoints of vLLM 0.32.0; a test
compares the fields with those of an installed vLLM."""
