"""The assertion on accessibility, on pages that keep the rules and pages that do not."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, Route

from tests.browser.accessibility import Axe
from tests.browser.conftest import NewPage

pytestmark = pytest.mark.asyncio(loop_scope="session")

URL = "http://page.test/"
PAGE = """<!doctype html><html lang="en"><title>Page</title>
<link rel="stylesheet" href="style.css"><main><h1>Page</h1>%s</main></html>"""
STYLE = """p { color: #bbb; background: #fff }
button { padding: 1em }
.small { width: 10px; height: 10px; padding: 0; border: 0; display: block }"""
POLICY = "default-src 'none'; style-src 'self'"


async def show(page: Page, content: str) -> None:
    """Serves a page under a policy that lets no script run."""

    async def answer(route: Route) -> None:
        if route.request.url.endswith("/style.css"):
            await route.fulfill(body=STYLE, content_type="text/css")
        else:
            headers = {"content-security-policy": POLICY}
            await route.fulfill(body=PAGE % content, content_type="text/html", headers=headers)

    await page.route("**/*", answer)
    await page.goto(URL)


async def test_a_page_that_keeps_the_rules_passes(new_page: NewPage, axe: Axe) -> None:
    page = await new_page()
    await show(page, '<label>Name <input autocomplete="name"></label> <button>Save</button>')
    await axe(page)


@pytest.mark.parametrize(
    ("content", "rule", "node"),
    [
        ("<input>", "label", "input"),
        ("<p>Hardly to be read</p>", "color-contrast", "p"),
        ("<h3>Two levels deeper</h3>", "heading-order", "h3"),
        (
            '<button class="small" id="a">a</button><button class="small" id="b">b</button>',
            "target-size",
            "#a",
        ),
    ],
)
async def test_a_broken_rule_is_named_with_its_node(
    new_page: NewPage, axe: Axe, content: str, rule: str, node: str
) -> None:
    page = await new_page()
    await show(page, content)
    with pytest.raises(AssertionError, match=f"(?s)- {rule} .*at {node}: "):
        await axe(page)


async def test_only_a_part_of_the_page(new_page: NewPage, axe: Axe) -> None:
    page = await new_page()
    await show(page, "<div id=here><button>Save</button></div><input>")
    await axe(page, within="#here")
    with pytest.raises(AssertionError, match="- label "):
        await axe(page)
