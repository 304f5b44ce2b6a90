"""The routes trainers and servers already speak, each a thin translation of `POST /v1/rewards`.

A contract is a pure pair: what was asked, out of a body; an answer, out of the scores. Each file
names the client it was read from. None of these clients survives a `null` in a list, so a request
is scored whole or refused, and an error's body holds none of the fields they read rewards from.
"""
