"""Loading a reward model: its files, its trunk, its head."""
