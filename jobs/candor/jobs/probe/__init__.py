"""`candor probe train`, `calibrate` and `report`: fit, scale and describe a probe."""
