"""What runs for hours and may be killed: `candor generate`, `score`, `bon` and `probe train`."""
