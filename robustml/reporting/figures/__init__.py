"""The charts of the pages, drawn by matplotlib as SVG."""
