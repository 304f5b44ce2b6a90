"""What each arm is asked, and the loops that ask it."""
