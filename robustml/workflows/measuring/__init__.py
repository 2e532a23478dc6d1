"""What a run is judged by, as its `evaluation` settings say, and how that is written down."""
