"""`robustml model <word>`: where a model comes from, whether it is still that, and what its file could run."""
