"""`python scripts/train.py ...` is `robustml train ...`."""

from robustml.commands.train import main

if __name__ == "__main__":
    main()
