"""What attacks run on: gradients, losses, loops, per-example attempts, processes, captured graphs, half precision."""
