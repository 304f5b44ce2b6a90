"""Messages and texts to token ids, with the place of the response among them."""
