"""Composing: from words of a command line to plain settings."""
