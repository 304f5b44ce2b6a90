"""Who competes in `make bench`, and how each is started."""
