"""The pages: one template each, and one function that fills it from typed results."""
