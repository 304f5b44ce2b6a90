"""Intervals, power, and the figures of the audit of a reward's tilt."""
