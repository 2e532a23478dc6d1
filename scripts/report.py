"""`python scripts/report.py ...` is `robustml report ...`."""

from robustml.commands.report import main

if __name__ == "__main__":
    main()
