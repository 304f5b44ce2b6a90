"""`candor generator`: a small chat server and its sampler."""
