"""Rows in the forms that people have, read as Candor's rows and written again
(docs/formats.md)."""
