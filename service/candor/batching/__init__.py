"""The queue in front of the model: admission, order, batches, worker threads. In: the items of one
request, by `Batcher.submit`. Out: one `Scored` per item, or an error. Open `batcher.py` first."""
