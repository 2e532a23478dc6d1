"""Records that are changed, added or deleted, with no trigger: one paper a file."""
