"""`candor generate`, `score`, `bon`, `pairs` and `audit tilt`: sampled responses and their
scores."""
