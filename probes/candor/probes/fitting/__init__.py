"""From labelled rows to a probe: collect activations, split, fit, choose, evaluate, calibrate."""
