"""What lies in a run directory beside its settings: weights, records, and what former versions left."""
