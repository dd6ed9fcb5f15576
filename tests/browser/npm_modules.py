"""What npm has installed for these tests, and what is bundled from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NPM = Path(__file__).parent / "npm"


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
