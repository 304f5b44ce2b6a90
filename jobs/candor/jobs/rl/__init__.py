"""`candor rl`: GRPO (arXiv 2402.03300) with TRL against a Candor server, logged, evaluated and
guarded.

TRL trains. This room adds a penalty that warms up, a row per step with R, each S and the monitors,
a sycophancy evaluation every k steps, and guards that end the run with a reason. How to run it and
read its files: docs/rl.md.
"""
