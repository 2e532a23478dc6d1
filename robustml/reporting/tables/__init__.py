"""The tables of the pages and of the terminal."""
