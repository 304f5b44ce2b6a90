"""`candor probe train`, `calibrate` and `report`."""
