"""The request path without HTTP: R and S become a reward."""
