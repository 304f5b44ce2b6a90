"""`candor check`: trainers' recorded requests, sent to a running server."""
