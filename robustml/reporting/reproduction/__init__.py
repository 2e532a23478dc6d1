"""Reproductions of papers: what was published, what we measured, and the verdicts."""
