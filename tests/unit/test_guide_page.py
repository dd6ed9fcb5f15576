"""docs/guide.md points to parts and tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guide.md").read_text("utf-8")
PLACES = ("rust_core", "python/jasaweb_rt", "tests", "migrations")
FILES = sorted(set(re.findall(r"`([\w./-]+\.(?:py|rs|js|sql))`", PAGE)))
CLASSES = sorted(set(re.findall(r"`(Test\w+)`", PAGE)))


@pytest.fixture(scope="module")
def files() -> list[str]:
    """Every file of the project's own, by its path."""
    return [
        path.as_posix() for place in PLACES for path in (ROOT / place).rglob("*.*") if "node_modules" not in path.parts
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_there(files: list[str], name: str) -> None:
    assert [path for path in files if path.endswith(f"/{name}")]


@pytest.mark.parametrize("name", CLASSES)
def test_a_group_of_tests_is_there(name: str) -> None:
    assert f"class {name}" in (ROOT / "tests" / "e2e" / "test_guide.py").read_text("utf-8")
