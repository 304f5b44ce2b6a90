"""Labelled probe data by kind: entries written for this repository, and loaders of public sets."""
