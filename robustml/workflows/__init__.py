"""Whole jobs as plain functions with typed arguments, each of which leaves a run directory."""
