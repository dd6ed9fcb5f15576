"""docs/fanout.md and docs/metrics.md leave nothing out."""

import re

import pytest

from jasaweb_rt import _core
from tests.support.pages import ROOT


def code_on(page: str) -> set[str]:
    """Every name that stands on a page in code, blocks apart."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`]+)`", text)
    return {name for span in spans for name in re.findall(r"\w+", span)}


def fields(record: type) -> set[str]:
    return {name for name in vars(record) if not name.startswith("_")}


def test_the_page_on_the_core_names_every_method() -> None:
    assert fields(_core.FanoutServer) - {"address", "node_id"} <= code_on("docs/fanout.md")


_COUNTED = [_core.Stats, _core.Drops, _core.HandshakeRefusals, _core.HttpRefusals, _core.Histogram, _core.ClusterStats]


@pytest.mark.parametrize("record", _COUNTED)
def test_the_page_on_counters_names_every_one(record: type) -> None:
    assert fields(record) <= code_on("docs/metrics.md")
