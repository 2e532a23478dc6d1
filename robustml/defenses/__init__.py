"""The answers: what was done to a model or its data is detected, and repaired."""
