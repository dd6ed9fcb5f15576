"""Requests that are made up from the OpenAPI schema, against a whole server (https://schemathesis.readthedocs.io)."""

import asyncio
import sys
from pathlib import Path

# A schema has no words for what two readers would read differently, for ids that exist, and for one of two fields.
_NOT_CHECKED = "positive_data_acceptance"
# The front door answers it, whatever the method.
_NOT_ASKED = "/ws"
_CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
_REQUEST_SECONDS = "60"


async def fuzz(url: str, token: str | None, folder: Path, *options: str, seconds: float) -> tuple[int, str]:
    """Runs schemathesis in `folder` on the server at `url`, in the name of `token`'s user or of nobody.

    Every answer must be as the schema says: its status, its type, its body; never a 5xx but for 503.

    Returns:
        The exit code, 0 where nothing was found, and what was found.

    Raises:
        TimeoutError: it took more than `seconds`, and was killed.
    """
    command = [
        str(Path(sys.executable).parent / "schemathesis"),
        *("--config-file", str(_CONFIGURATION)),
        "run",
        f"{url}/schema/openapi.json",
        *("--exclude-checks", _NOT_CHECKED),
        *("--exclude-path", _NOT_ASKED),
        *("--request-timeout", _REQUEST_SECONDS),
        *("--warnings", "off"),
        "--no-color",
        *options,
    ]
    if token is not None:
        command += ["--header", f"Authorization: Bearer {token}"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")
