"""The wheel, built, installed elsewhere and run from a folder of nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from integration.forks import FOREIGN
from integration.test_train import FILES
from robustml.config import config_dir

ROOT = Path(__file__).parents[2]
SHIPPED = ("configs", "robustml", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


def run(*words: object, cwd: Path, status: int = 0) -> str:
    env = {key: value for key, value in os.environ.items() if key not in (*FOREIGN, "VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tree / name)
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tree / "dist", cwd=tree)
    (built,) = (tree / "dist").glob("robustml_lightning-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that holds the wheel, and borrows its dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert uv is not None, "uv installs the wheel; it is in the dev extra"
    run(uv, "pip", "install", "--no-deps", "--offline", "--python", python, wheel, cwd=folder)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A path line, unlike a site directory, does not run the .pth file of the editable install that lies there.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_holds_the_package_and_every_config(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in config_dir().rglob("*.yaml"):
        assert f"robustml/configs/{path.relative_to(config_dir()).as_posix()}" in names
    assert {"robustml/cli.py", "robustml/py.typed", "robustml/__init__.pyi"} <= names
    assert {"robustml/reporting/pages/base.html.j2", "robustml/reporting/pages/style.css"} <= names
    assert not [name for name in names if name.startswith(("tests/", "scripts/"))]


def test_the_installed_wheel_trains_from_a_foreign_folder(installed: Path, tmp_path: Path) -> None:
    code = "import robustml, robustml.config; print(robustml.__file__); print(robustml.config.config_dir())"
    package, configs = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()
    assert Path(package).is_relative_to(installed.parent)
    assert Path(configs) == Path(package).parent / "configs"
    out = run(installed / "robustml", "train", "experiment=digits_pgd", "debug=fast", cwd=tmp_path)
    folder = Path(out.splitlines()[-1].removeprefix("run: "))
    assert folder.is_relative_to(tmp_path)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == FILES
    out = run(installed / "robustml", "evaluate", f"run={folder}", "evaluation=clean", cwd=tmp_path)
    assert f"run: {folder}/evaluations/" in out


def test_a_users_file_is_typed_by_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    mine = shutil.copy(Path(__file__).with_name("typed_user.py"), tmp_path / "mine.py")
    words = (sys.executable, "-m", "mypy", "--strict", "--python-executable", installed / "python", mine)
    said = run(*words, cwd=tmp_path, status=1).splitlines()
    mistake = mine.read_text().splitlines().index('threat.eps = "8/255"') + 1
    assert {line.split(":")[1] for line in said[:-1]} == {str(mistake)}, said
