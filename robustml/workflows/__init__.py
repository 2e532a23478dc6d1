"""Whole jobs as plain functions: typed arguments in, a run directory out."""
