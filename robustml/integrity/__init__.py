"""Sets and models that prove where they come from: names, keys, trust, signatures, an audit log."""
