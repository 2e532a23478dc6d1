"""`robustml model <word>`: where a model comes from, and whether it is still the one that was measured."""
