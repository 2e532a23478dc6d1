"""`robustml data audit-log <word>`: the log of what was done to data and models."""
