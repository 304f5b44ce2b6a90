"""What a policy in training does on held-out prompts: its responses, judged and scored.

`evaluate.py` draws and scores; `feedback.py` and `grounded.py` make the numbers, one file per kind
of prompt. In: a model and prompts. Out: one row of JSON per evaluation.
"""
