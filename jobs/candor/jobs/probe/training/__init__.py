"""Fitting one probe: its options, and the fit from rows to a card."""
