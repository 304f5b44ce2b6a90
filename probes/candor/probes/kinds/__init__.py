"""Labelled probe data by kind: what we wrote ourselves, and loaders of the public sets."""
