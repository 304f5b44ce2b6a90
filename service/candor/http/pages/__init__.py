"""The pages that a browser opens: the inspector and the reference of the routes."""
