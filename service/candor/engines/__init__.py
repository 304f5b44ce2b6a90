"""The engines: run a forward pass and read the probes in it (packed, padded or vLLM). In: a batch
of items. Out: one `Score` per item. Open `choose.py` first, then `packed.py`."""
