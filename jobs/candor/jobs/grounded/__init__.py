"""Answers to grounded questions, judged: which value each response gives (`candor.probes.kinds.
grounded.judge`), and how likely best-of-N is to choose it. Open `judged.py`."""
