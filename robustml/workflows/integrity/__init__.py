"""Sets that prove what they are: manifests of them, and what became of them since."""
