"""The routes that only the server's operator may use: they change what is served, or take labels.
`edge.OPERATOR_PATHS` names them."""
