"""What the documentation site generates from the code: a page a method (`mkdocs.yml` names this file as a hook).

A page says what the method does and which paper it is from (the docstring of its module), when to use it
(docs/methods/when.yaml), what was measured of it (docs/measured/methods.json), how to run it, its config and arguments.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
WHEN = ROOT / "docs" / "methods" / "when.yaml"
MEASURED = ROOT / "docs" / "measured" / "methods.json"
NORMS = {"inf": "L∞", "2": "L2", "1": "L1", "0": "L0"}
GROUPS = {
    "attack": ("Attacks", "robustml evaluate run=<dir> attack={name}"),
    "objective": ("Training objectives", "robustml train objective={name}"),
    "poison": ("Poisons", "robustml train poison={name} twin=true"),
    "threat": ("Threats", "robustml train threat={name}"),
    "callbacks": ("Callbacks", "robustml train callbacks={name}"),
    "method": ("Model extraction", "robustml extract victim=<dir or URL> method={name}"),
    "defense": ("Defenses of an endpoint", "robustml serve run=<dir> defense={name}"),
    "detector": ("Detectors", "robustml detect run=<dir> detector={name}"),
    "repair": ("Repairs", "robustml repair run=<dir> method={name}"),
}

# What has no figure, and why.
WATCHES = dict.fromkeys(
    ("callbacks/health", "callbacks/robust_evaluation"),
    "It watches a training and changes nothing: it has no figure of its own.",
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation, a section a kind: a page that is left out stops the build."""
    kinds: list[dict[str, Any]] = [
        {GROUPS[group][0]: [{name: f"methods/{group}/{name}.md"} for name in names]}
        for group, names in yaml.safe_load(WHEN.read_text()).items()
    ]
    methods = {"Methods": ["methods/index.md", *kinds]}
    config.nav = [methods if "Methods" in each else each for each in config.nav or ()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the methods, and one that lists them."""
    index = ["# Methods", "", "A page a method: what it does, when to use it, how to run it, its paper.", ""]
    for group, lines in yaml.safe_load(WHEN.read_text()).items():
        title, _ = GROUPS[group]
        index += [f"## {title}", "", "| option | class | when | measured |", "|---|---|---|---|"]
        for name, when in lines.items():
            uri = f"methods/{group}/{name}.md"
            files.append(File.generated(config, uri, content=page(group, name, when)))
            kind = target(group, name).rpartition(".")[2]
            row = (f"[`{group}={name}`]({group}/{name}.md)", f"`{kind}`", when, short(group, name))
            index.append(f"| {' | '.join(row)} |")
        index.append("")
    files.append(File.generated(config, "methods/index.md", content="\n".join(index)))
    return files


def page(group: str, name: str, when: str) -> str:
    """The page of one method, in Markdown."""
    path = target(group, name)
    module, docstring = home(path)
    first, _, rest = docstring.partition("\n\n")
    text = (ROOT / "configs" / group / f"{name}.yaml").read_text()
    command = GROUPS[group][1].format(name=name)
    return "\n\n".join(
        (
            f"# {path.rpartition('.')[2]} (`{group}={name}`)",
            first,
            f"**When to use it.** {when}",
            rest,
            f"```\n{command}\n```",
            measured(group, name),
            f'```yaml title="configs/{group}/{name}.yaml"\n{text}```',
            # Links to a class lead to the reference, not here.
            f"::: {module}.{path.rpartition('.')[2]}\n    options: {{skip_local_inventory: true}}",
        )
    )


def measured(group: str, name: str) -> str:
    """What was measured of a method, and how, in Markdown."""
    every = _measured()
    row = every["methods"].get(f"{group}/{name}")
    if row is None:
        return f"**Measured.** {WATCHES.get(f'{group}/{name}', 'Not yet measured.')}"
    row = {"commit": every["commit"], "date": every["date"], **row}
    norm, _, eps = (row["threat"] or "").partition(" ")
    within = f", threat {NORMS.get(norm, norm)} {eps}" if eps else ""
    heads = [
        *(key.partition(", ")[0] if group == "attack" else key for key in row["figures"]),
        *([] if row["seconds"] is None else ["seconds"]),
    ]
    cells = [*map(percent, row["figures"].values()), *([] if row["seconds"] is None else [str(row["seconds"])])]
    return "\n".join(
        (
            f"**Measured.** On scikit-learn's digits{within}; in brackets the 95% interval.",
            "",
            f"| {' | '.join(heads)} |",
            f"|{'---|' * len(heads)}",
            f"| {' | '.join(cells)} |",
            "",
            f"`robustml {row['command']}`, by `{every['command']}` at {row['commit']} on {row['date']}, on one "
            "thread beside other work: seconds are what they were there.",
        )
    )


def short(group: str, name: str) -> str:
    """The last figure that was measured of a method, or none."""
    row = _measured()["methods"].get(f"{group}/{name}")
    if row is None:
        return "not yet"
    key = list(row["figures"])[1 if group == "poison" and len(row["figures"]) > 2 else 0 if group == "method" else -1]
    return f"{key.partition(', ')[0]} {percent(row['figures'][key])}"


def percent(rate: dict[str, Any]) -> str:
    """A rate and its interval."""
    low, high = rate["ci95"]
    return "none" if rate["value"] is None else f"{rate['value']:.1%} ({low:.1%} to {high:.1%})"


def _measured() -> dict[str, Any]:
    return json.loads(MEASURED.read_text()) if MEASURED.is_file() else {"methods": {}}


def target(group: str, name: str) -> str:
    """The class that a config names, its own or that of the config it starts from, as `robustml.attacks.PGD`."""
    config = yaml.safe_load((ROOT / "configs" / group / f"{name}.yaml").read_text())
    for value in (config, *(value for value in config.values() if isinstance(value, dict))):
        if "_target_" in value:
            return str(value["_target_"])
    for base in config.get("defaults", ()):
        if isinstance(base, str) and base != "_self_":
            return target(group, base)
    raise ValueError(f"configs/{group}/{name}.yaml names no class")


def home(path: str) -> tuple[str, str]:
    """The module where a re-exported class is written, and that module's docstring."""
    room, _, name = path.rpartition(".")
    source = source_of(room)
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return home(f"{node.module}.{name}")
    return room, ast.get_docstring(ast.parse(source.read_text())) or ""


def source_of(module: str) -> Path:
    """The file of a module of robustml, which is not imported."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
