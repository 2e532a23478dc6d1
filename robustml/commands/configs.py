"""`robustml configs`: list the built-in configs, show one, copy them."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from robustml.commands.ending.failures import report_failures
from robustml.config import config_dir, config_groups
from robustml.errors import RequestError, nearest


def main() -> None:
    """List, show or copy."""
    parser = argparse.ArgumentParser(
        prog="robustml configs",
        description="List the built-in configs, show one, or copy them to change them.",
        epilog="examples: robustml configs                     every group and its options\n"
        "          robustml configs attack/pgd          print one\n"
        "          robustml configs --copy my_configs   copy all; use them with --config-dir my_configs",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="a config to print, such as attack/pgd")
    parser.add_argument("--copy", type=Path, metavar="DIR", help="copy the built-in configs into a new folder")
    arguments = parser.parse_args()
    report_failures(lambda: _configs(arguments.name, arguments.copy))


def _configs(name: str | None, copy: Path | None) -> None:
    folder = config_dir()
    known = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    if copy is not None:
        if copy.exists():
            raise RequestError(f"{copy} exists already; name a new folder")
        partial = copy.with_name(f".{copy.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial).rename(copy)
        print(f"copied {len(known)} configs to {copy}; use them with --config-dir {copy}")
    elif name is not None:
        if name.removesuffix(".yaml") not in known:
            raise RequestError(f"there is no config {name!r}; {nearest(name, known)}")
        print(known[name.removesuffix(".yaml")].read_text(), end="")
    else:
        groups = config_groups(folder)
        width = max(map(len, groups)) + 2
        for group, options in groups.items():
            print(f"{group or 'entry points':<{width}}{', '.join(options)}")


if __name__ == "__main__":
    main()
