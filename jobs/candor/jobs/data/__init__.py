"""`candor data`: labelled rows and prompts."""
