"""`python scripts/sweep.py ...` is `robustml sweep ...`."""

from robustml.commands.sweep import main

if __name__ == "__main__":
    main()
