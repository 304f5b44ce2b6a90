"""`candor eval sycophancy` and `candor eval feedback`: texts, prompts, judges, grading, numbers.

The commands are `candor.jobs.sycophancy.job` and `feedback_job`; docs/evaluation.md defines each
number.
"""
