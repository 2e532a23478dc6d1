"""Runs the tutorials for the site, as many at once as there are cores, while its other pages are built.

A cell that fails is an error, at which a build (`make docs`) stops; one that does not says how many passed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from nbclient import NotebookClient

SECONDS = 240  # a cell
FOLDER = tempfile.TemporaryDirectory()
POOL = ThreadPoolExecutor(os.cpu_count())
RUNNING: dict[str, Future[None]] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Start the tutorials, and put them last among the pages; their sources are copies, which will hold the outputs."""
    for file in [each for each in files if each.src_uri.endswith(".ipynb")]:
        copy = Path(FOLDER.name) / file.src_uri
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.content_bytes)
        RUNNING[file.src_uri] = POOL.submit(execute, copy)
        file.abs_src_path = str(copy)
        files.remove(file)
        files.append(file)
    return files


def execute(path: Path) -> None:
    """Run a notebook in a kernel and a folder of its own, and write its outputs into it."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        here = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=SECONDS, resources=here, extra_arguments=["--log-level=ERROR"])
        asyncio.run(client.async_execute())
    nbformat.write(notebook, path)


def on_page_read_source(page: Page, config: MkDocsConfig) -> None:
    """Wait until a tutorial has run."""
    if page.file.src_uri in RUNNING:
        try:
            RUNNING[page.file.src_uri].result()
        except Exception as error:
            raise PluginError(f"{page.file.src_uri}: {error}") from error


def on_post_build(config: MkDocsConfig) -> None:
    """Say what passed."""
    logging.getLogger("mkdocs.hooks").info(f"{len(RUNNING)} tutorials ran")
    FOLDER.cleanup()


def on_build_error(error: Exception) -> None:
    """Start no further tutorial, and wait for those that run."""
    POOL.shutdown(cancel_futures=True)
    FOLDER.cleanup()
