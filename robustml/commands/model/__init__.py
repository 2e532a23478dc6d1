"""`robustml model <word>`: what is done to files of models: scanned, signed, verified."""
