"""`python scripts/evaluate.py ...` is `robustml evaluate ...`."""

from robustml.commands.evaluate import main

if __name__ == "__main__":
    main()
