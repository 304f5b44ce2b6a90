"""The request path without HTTP: from R and S to a reward. In: a `ScoringRequest`. Out: the answer,
as bytes or dicts. Open `rewarder.py` first; `compose.py` has the arithmetic."""
