"""Comparing rules of choosing: exact best-of-N, null arms, verdicts, cost at an equal fall.

Arrays in, numbers out; neither torch nor a server. Open `selection.py` first.
"""
