"""The routes that only the server's operator may use, beside `/metrics`: they take labels, change
what is served, or show the monitors. `edge.OPERATOR_PATHS` names them."""
