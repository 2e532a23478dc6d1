"""Repairs of backdoored models, one paper a file."""
