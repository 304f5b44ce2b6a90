"""What an operator sees: readiness, metrics, drift and its alarms."""
