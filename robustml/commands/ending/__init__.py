"""How a verb ends: every failure becomes one line and an exit status, and a signal stops it with care."""
