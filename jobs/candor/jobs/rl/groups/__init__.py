"""TRL's GRPOTrainer where many responses share a prompt: each prompt is computed once.

In: the rows of TRL. Out: the same samples, log-probabilities and loss, for less work. Open
`trainer.py` first.
"""
