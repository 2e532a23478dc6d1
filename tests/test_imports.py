"""The house rule on imports, read off the source: a room imports from lower floors or from itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "robustml"

FLOORS = {
    "cli": 8,
    "commands": 8,
    "workflows": 7,
    "training": 5,
    "extraction": 5,
    "defenses": 5,
    "objectives": 4,
    "evaluation": 4,
    "trojans": 4,
    "monitoring": 4,
    "attacks": 3,
    "poisoning": 3,
    "threats": 2,
    "models": 2,
    "data": 2,
    "integrity": 2,
    "reporting": 2,
    "types": 1,
    "results": 1,
    "errors": 1,
    "seeds": 1,
    "draws": 1,
    "files": 1,
    "untrusted": 1,
    "scanning": 1,
    "modes": 1,
    "allocator": 1,
    "calling": 1,
    "deadline": 1,
    "config": 1,
    "say": 1,
    "progress": 1,
    "numbers": 1,
    "budgets": 1,
}
# What the rooms on the ground floor need of each other.
ON_THE_GROUND = {
    ("results", "errors"),
    ("results", "files"),
    ("results", "numbers"),
    ("results", "untrusted"),
    ("files", "errors"),
    ("modes", "errors"),
    ("calling", "types"),
    ("calling", "errors"),
    ("config", "errors"),
    ("numbers", "errors"),
    ("budgets", "errors"),
    ("budgets", "numbers"),
    ("say", "errors"),
    ("progress", "say"),
    ("untrusted", "errors"),
    ("untrusted", "files"),
    ("scanning", "errors"),
    ("scanning", "files"),
}
# Reports draw run directories and results, and load nothing that could run a model.
OF_REPORTING = {"results", "errors", "files", "numbers", "untrusted"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(source: str, package: list[str]) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported, wherever in the file; `package` resolves relative imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def imports_of(path: Path) -> list[tuple[int, list[str]]]:
    package = list(path.relative_to(ROOT).parts[:-1])
    return [(line, name.split(".")) for line, name in imported(path.read_text(), package)]


def test_the_reader_of_imports_sees_every_form() -> None:
    source = (
        "import a.b\nfrom c import d\nif x:\n    from . import e\n    from ..f import g\ndef h():\n    import i, j\n"
    )
    assert sorted(imported(source, ["p", "q"])) == [
        (1, "a.b"),
        (2, "c.d"),
        (4, "p.q.e"),
        (5, "p.f.g"),
        (7, "i"),
        (7, "j"),
    ]


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in MODULES} - {"__init__"}
    assert rooms <= FLOORS.keys()
    assert {"attacks", "evaluation", "training", "threats", "cli"} <= rooms


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_goes_up(path: Path) -> None:
    room = room_of(path)
    for line, name in imports_of(path):
        where = f"{path.relative_to(ROOT)}:{line} imports {'.'.join(name)}"
        assert name[0] not in ("scripts", "tests"), where
        if room not in ("cli", "commands"):
            assert name[0] not in ("hydra", "omegaconf", "hydra_plugins"), f"{where}, which only commands may"
        if name[0] != "robustml" or room == "__init__":
            continue
        other = name[1]
        assert other in FLOORS.keys() | {"__version__"}, f"{where}, a room without a floor"
        if other in (room, "__version__") or (room, other) in ON_THE_GROUND | {("cli", "commands")}:
            continue
        assert FLOORS[other] < FLOORS[room], f"{where}: from floor {FLOORS[room]} to floor {FLOORS[other]}"
        if room == "reporting":
            assert other in OF_REPORTING, f"{where}, but reporting draws what it reads"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_imports_go_round_in_a_circle() -> None:
    """Those inside functions count; a package that gathers the names of its own modules does not import them back."""
    modules = {module_of(path): path for path in MODULES}
    needs: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = {".".join(words[:end]) for _, words in imports_of(path) for end in (len(words), len(words) - 1)}
        needs[name] = {other for other in found & modules.keys() if other != name and not name.startswith(f"{other}.")}
    while free := [name for name, others in needs.items() if not others]:
        for name in free:
            del needs[name]
        needs = {name: others - {*free} for name, others in needs.items()}
    # What is left leans on a circle; what nobody of them needs is not in one.
    while outer := needs.keys() - {other for others in needs.values() for other in others}:
        needs = {name: others for name, others in needs.items() if name not in outer}
    assert needs == {}


@pytest.mark.parametrize("module", ["robustml", "robustml.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = "{'torch', 'hydra', 'omegaconf', 'pytorch_lightning', 'numpy', 'pandas', 'matplotlib', 'torchattacks'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_whoever_trains_nothing_waits_for_no_trainer() -> None:
    """Lightning and what it brings take three times as long as torch; a notebook that evaluates needs none of it."""
    rooms = "attacks objectives threats models data poisoning evaluation extraction results"
    heavy = "pytorch_lightning lightning_fabric torchmetrics torchvision torch._dynamo matplotlib pandas datasets scipy"
    code = (
        "import sys, importlib\n"
        f"for room in {rooms.split()}:\n"
        "    importlib.import_module('robustml.' + room)\n"
        f"    print(room, *({{*{heavy.split()}}} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == rooms.split()


def test_the_lazy_names_of_the_package_resolve() -> None:
    import robustml

    for name in robustml.__all__:
        assert getattr(robustml, name) is not None
    assert robustml.LpBall is sys.modules["robustml.threats"].LpBall
    assert {"PGD", "TRADES", "BadNets", "RobustEvaluation", "attacks", "evaluate"} <= {*dir(robustml)}
    assert dir(robustml) == robustml.__all__
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = robustml.nothing_of_the_kind
