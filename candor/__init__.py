"""The `candor` command: the table of its sub-commands, and nothing else."""
