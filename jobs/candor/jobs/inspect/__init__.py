"""`candor inspect`: a page of scored rows."""
