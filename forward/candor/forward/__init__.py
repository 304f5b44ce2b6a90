"""One batch through a model's trunk, packed so that a shared prefix is computed once."""
