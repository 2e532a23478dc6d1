"""Thin mains, one a verb: `robustml <verb>` runs `robustml.commands.<verb>`."""
