"""The servers that `make bench` compares, and how each is started."""
