"""What axe-core finds wrong with a page, as an assertion."""

from __future__ import annotations

import textwrap
from typing import Any

from playwright.async_api import Page

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
"""Tags of axe-core: WCAG 2.2 at level AA is these but the last, which is what axe-core recommends beyond it."""

_RUN = """([within, values]) =>
  axe.run(within ?? document, { runOnly: { type: "tag", values }, resultTypes: ["violations"] })"""


class Axe:
    """Looks at pages; `await axe(page)` fails where one breaks a rule."""

    def __init__(self, source: str) -> None:
        self._install = f"() => {{ if (!window.axe) {{ {source} }} }}"

    async def __call__(self, page: Page, *, within: str | None = None) -> None:
        """Asserts that axe-core finds no violation on a page as it is now.

        Args:
            page: any page; its Content-Security-Policy does not matter, for nothing is put into the document.
            within: a CSS selector: only what lies inside it counts, and rules about whole pages do not. None: the page.
        """
        violations = await self.violations(page, within=within)
        assert not violations, f"{page.url} breaks rules of accessibility:\n" + "\n".join(
            f"- {rule['id']} ({rule['impact']}): {rule['help']}\n"
            f"    at {' '.join(map(str, node['target']))}: {node['html']}\n"
            + textwrap.indent(node["failureSummary"], "    ")
            for rule in violations
            for node in rule["nodes"]
        )

    async def violations(self, page: Page, *, within: str | None = None) -> list[dict[str, Any]]:
        """The rules that the page breaks, as axe-core describes them, each with its `nodes`."""
        # Evaluated by the debugger, which no policy of the page stops; in each frame, for axe-core asks its copy there.
        for frame in page.frames:
            await frame.evaluate(self._install)
        result = await page.evaluate(_RUN, [within, list(RULES)])
        violations: list[dict[str, Any]] = result["violations"]
        return violations
