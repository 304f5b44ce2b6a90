"""Grounded questions: the answer stands in the prompt, so a judge can be exact. In: the entries of
`data/grounded.json`. Out: prompts, labelled rows, verdicts. Open `questions.py` first."""
