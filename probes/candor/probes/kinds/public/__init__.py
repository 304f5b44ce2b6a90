"""Loaders of public data sets, from a local file or the Hugging Face hub, into rows or entries.

Nothing of these sets is in this repository: a loader reads a copy that the user has or fetches.
"""
