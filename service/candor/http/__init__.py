"""The HTTP server: the edge (keys, limits, errors), routes, the OpenAPI document, the drain. In: an
HTTP request. Out: its answer, computed by `candor.scoring`. Open `app.py` first, then `routes.py`.
"""
