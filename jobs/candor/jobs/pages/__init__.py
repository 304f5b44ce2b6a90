"""Pages of scored rows: alone, and with what best-of-N chooses among them."""
