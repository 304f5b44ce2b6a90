"""The queue in front of the model: admission, order, batches, worker threads."""
