"""Detectors of poisoned records and of backdoored models, one paper a file."""
