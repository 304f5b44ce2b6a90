"""The commands: what runs beside the reward server, for minutes or for days."""
