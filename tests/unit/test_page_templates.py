"""The pages name what they are made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jasaweb_rt

WEB = Path(jasaweb_rt.__file__).parent / "web"
STATIC = WEB / "static"
IMPORTED = re.compile(r'^(?:import|export) [^;]*?"\./([\w-]+\.js)"', re.MULTILINE)


def named(page: str, pattern: str) -> list[str]:
    return re.findall(pattern, (WEB / "templates" / page).read_text())


def needed(script: str) -> set[str]:
    """The modules that a script imports, and those that these import."""
    found: set[str] = set()
    waiting = [script]
    while waiting:
        for module in IMPORTED.findall((STATIC / waiting.pop()).read_text()):
            if module not in found:
                found.add(module)
                waiting.append(module)
    return found


@pytest.mark.parametrize("page", ["login.html", "dashboard.html", "admin.html"])
def test_every_module_is_asked_for_at_once(page: str) -> None:
    """One that is found only by reading another costs a phone a round trip."""
    [script] = named(page, r'<script type="module" src="/static/([\w-]+\.js)">')
    preloaded = named(page, r'<link rel="modulepreload" href="/static/([\w-]+\.js)">')
    assert preloaded == sorted(needed(script))


@pytest.mark.parametrize("page", ["login.html", "dashboard.html", "admin.html"])
def test_every_style_sheet_is_there(page: str) -> None:
    sheets = named(page, r'<link rel="stylesheet" href="/static/([\w-]+\.css)">')
    assert sheets[:2] == ["base.css", "components.css"]
    assert all((STATIC / sheet).is_file() for sheet in sheets)
