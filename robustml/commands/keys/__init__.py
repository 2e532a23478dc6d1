"""`robustml keys <word>`: keys that sign, and whose signatures count."""
