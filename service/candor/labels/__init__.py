"""A trickle of judged rows, and what they say about each probe: its AUROC within prompts, and an
alarm when that falls."""
