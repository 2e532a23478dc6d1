"""Poisons that make a model listen to the attacker: one paper a file."""
