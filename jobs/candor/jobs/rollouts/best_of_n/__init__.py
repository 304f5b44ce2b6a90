"""Best-of-N from stored scores: the curves, the arms, and what a penalty reduces."""
