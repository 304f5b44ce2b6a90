"""`make rl-demo`: GRPO on R beside GRPO on the penalised reward."""
