"""A reply as a table: rows, a pandas DataFrame, and HTML for notebooks."""
