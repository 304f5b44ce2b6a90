"""The demo's reward model and its probe, and how they are fitted. Open `model.py` first."""
