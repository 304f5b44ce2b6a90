"""The vLLM engine: the server's side, and the code that runs in vLLM's own processes."""
