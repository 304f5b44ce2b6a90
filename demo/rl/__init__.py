"""`make rl-demo`: GRPO on grounded questions, on R, on the penalised reward and on null arms.

`run.py` trains, `raw.py` keeps what a reader needs of each run, `summary.py` and its helpers make
every figure from those rows.
"""
