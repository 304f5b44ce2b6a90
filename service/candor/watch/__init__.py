"""The operator's view of the server: readiness, metrics, drift and its alarms."""
