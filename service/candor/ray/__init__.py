"""The server as replicas of Ray Serve."""
