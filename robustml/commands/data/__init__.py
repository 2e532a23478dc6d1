"""`robustml data <word>`: what is done to a set: described, and proved to be what it was."""
