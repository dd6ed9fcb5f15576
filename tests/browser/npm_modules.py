"""What npm has installed for these tests, and what is bundled from it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

NPM = Path(__file__).parent / "npm"
DEADLINE = 60.0
"""Seconds that a script may take."""


def npm_module(name: str) -> Path:
    """Folder of a package of `tests/browser/npm/package.json`.

    Not installed: an error where CI is set, else the test is skipped.
    """
    folder = NPM / "node_modules" / name
    if not folder.is_dir():
        missing = f"{name} is not installed; to install it: make test, or npm ci --prefix tests/browser/npm"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return folder


def run_script(name: str, *arguments: Path) -> str:
    """Runs a script of `tests/browser/npm` by Node.js; what it printed.

    Raises:
        CalledProcessError: it failed; its complaint is in `stderr`.
    """
    command = ["node", str(NPM / name), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE).stdout
