"""What `candor eval sycophancy` measures and how: texts, prompts, judges, grading, numbers.

The command itself is `candor.jobs.sycophancy.job`; what each number means is in docs/evaluation.md.
"""
