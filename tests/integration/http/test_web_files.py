"""Pages and their files, gzipped for those who take that."""

import gzip
from pathlib import Path

import httpx
import pytest

from jasaweb_rt.api import web_files
from jasaweb_rt.api.web_files import WebFile, accepts_gzip
from tests.integration.http.conftest import Client

WEB = Path(web_files.__file__).parent.parent / "web"


@pytest.mark.parametrize(
    ("accept_encoding", "accepted"),
    [
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("br, gzip;q=0.5", True),
        ("deflate ,gzip ; q=1.0 , br", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*", True),
        ("br, *;q=0.1", True),
        ("*;q=0", False),
        ("identity", False),
        ("br", False),
        ("gzip;q=", False),
        ("gzip;q=often", False),
        ("gzip;q=nan", False),
        ("gzip;level=9", False),
    ],
)
def test_who_takes_gzip(accept_encoding: str, accepted: bool) -> None:
    assert accepts_gzip(accept_encoding) is accepted


def test_what_does_not_get_shorter_stays_as_it_is() -> None:
    assert WebFile.of(b"short", "text/plain").gzipped is None
    assert WebFile.of(b"x" * 5_000, "image/png").gzipped is None


async def raw(client: Client, path: str, accept_encoding: str, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer, with its content as it came."""
    async with client.stream("GET", path, headers={"accept-encoding": accept_encoding, **headers}) as response:
        return response, b"".join([part async for part in response.aiter_raw()])


async def test_a_file_is_gzipped_for_those_who_take_it(client: Client) -> None:
    content = (WEB / "static" / "realtime.js").read_bytes()
    plain, plain_content = await raw(client, "/static/realtime.js", "identity")
    coded, coded_content = await raw(client, "/static/realtime.js", "br, gzip")
    assert (plain_content, gzip.decompress(coded_content)) == (content, content)
    assert len(coded_content) < len(content) / 2
    assert "content-encoding" not in plain.headers
    assert coded.headers["content-encoding"] == "gzip"
    assert coded.headers["content-length"] == str(len(coded_content))
    for response in (plain, coded):
        assert response.headers["vary"] == "Accept-Encoding"
        assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    assert plain.headers["etag"] != coded.headers["etag"]


async def test_each_form_is_revalidated_by_its_own_tag(client: Client) -> None:
    tags = {}
    for coding in ("identity", "gzip"):
        tags[coding] = (await raw(client, "/static/text.js", coding))[0].headers["etag"]
    for coding, etag in tags.items():
        again, content = await raw(client, "/static/text.js", coding, **{"if-none-match": etag})
        assert (again.status_code, content, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["vary"] == "Accept-Encoding"
        assert "content-encoding" not in again.headers
    other, _ = await raw(client, "/static/text.js", "gzip", **{"if-none-match": tags["identity"]})
    assert (other.status_code, other.headers["etag"]) == (200, tags["gzip"])


async def test_a_page_is_gzipped_too(client: Client) -> None:
    plain, plain_content = await raw(client, "/login", "identity")
    coded, coded_content = await raw(client, "/login", "gzip")
    assert gzip.decompress(coded_content) == plain_content
    assert coded.headers["content-encoding"] == "gzip"
    assert coded.headers["content-security-policy"] == plain.headers["content-security-policy"]
    for response in (plain, coded):
        assert response.headers["vary"] == "Accept-Encoding"
        assert response.headers["cache-control"] == "no-store"
