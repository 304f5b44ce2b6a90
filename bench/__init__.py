"""How fast Candor is beside its peers, measured in one run on one machine (docs/bench.md)."""
