"""A trickle of labels while a policy trains: which responses to judge, the judges, and where the
labels go."""
