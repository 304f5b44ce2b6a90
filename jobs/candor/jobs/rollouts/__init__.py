"""`candor generate`, `score`, `bon`, `pairs` and `audit tilt`: sample, score, compare."""
