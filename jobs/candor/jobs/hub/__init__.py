"""`candor probe push` and `pull`: probes in repositories of the Hugging Face Hub."""
