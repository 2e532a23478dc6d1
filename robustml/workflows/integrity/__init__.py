"""Sets and models that prove where they come from: whole jobs, with typed arguments."""
