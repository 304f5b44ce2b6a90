"""The HTTP server: edge, routes, parsing, OpenAPI document."""
