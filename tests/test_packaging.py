"""What lies around the package: `make setup` without an index for uv, the citation, the container, the templates."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from robustml import __version__

ROOT = Path(__file__).parents[1]
AROUND = ("Dockerfile", "CITATION.cff", ".pre-commit-config.yaml", ".github")
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "small"
version = "1"
[tool.hatch.build.targets.wheel]
packages = ["small"]
"""


def wheel(folder: Path) -> Path:
    """A distribution of one module, and nothing that an index is needed for."""
    path = folder / "locked-1-py3-none-any.whl"
    texts = {
        "locked.py": "",
        "locked-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: locked\nVersion: 1\n",
        "locked-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {name: hashlib.sha256(text.encode()).digest() for name, text in texts.items()}
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},{len(texts[name])}\n"
        for name, digest in digests.items()
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**texts, "locked-1.dist-info/RECORD": record}.items():
            archive.writestr(name, text)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("tampered", [False, True])
def test_where_uv_cannot_reach_the_index_pip_installs_what_the_lock_names(tmp_path: Path, tampered: bool) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "__init__.py").touch()
    locked = wheel(tmp_path)
    digest = hashlib.sha256(b"other" if tampered else locked.read_bytes()).hexdigest()
    (tmp_path / "requirements.lock").write_text(f"locked @ {locked.as_uri()} \\\n    --hash=sha256:{digest}\n")
    venv.create(tmp_path / ".venv", symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / ".venv")}))
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # pip, hatchling and editables
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text('#!/bin/sh\necho "$@" >> asked\necho "error: certificate unknown" >&2\nexit 2\n')
    uv.chmod(0o755)
    env = os.environ | {"PATH": f"{uv.parent}:{os.environ['PATH']}", "PIP_NO_INDEX": "1"}
    words = ["make", "setup", f"PYTHON={sys.executable}"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (tmp_path / "asked").read_text().startswith("pip sync ")
    if tampered:
        assert done.returncode != 0
        assert "hash" in done.stderr.lower()
        assert not (tmp_path / ".venv" / "installed").exists()
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        code = "import locked, small; print(locked.__file__, small.__file__)"
        python = tmp_path / ".venv" / "bin" / "python"
        found = subprocess.run([python, "-c", code], cwd="/", capture_output=True, text=True, check=True).stdout
        assert found.split() == [str(site / "locked.py"), str(tmp_path / "small" / "__init__.py")]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_every_hook_is_one_of_the_makefile() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    lint = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert re.search(rf"^\t{re.escape(hook['entry'].partition(' --')[0])}\b", lint, re.MULTILINE)


def test_the_container_copies_what_is_there_and_runs_what_the_demo_runs() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for names in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in names.split())
    words = yaml.safe_load(text.rpartition("CMD ")[2])
    demo = (ROOT / "Makefile").read_text().partition("\ndemo: ")[2].splitlines()[1]
    assert demo.strip() == " ".join(["$(BIN)/robustml", *words])


def test_issue_forms_have_what_github_asks_for_and_nothing_names_a_host() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form)
        assert all(part["attributes"]["label"] for part in form["body"])
    for name in AROUND:
        for path in [*(ROOT / name).rglob("*"), ROOT / name]:
            assert not path.is_file() or "://" not in path.read_text()
