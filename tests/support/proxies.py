"""nginx and Caddy with the files of `deploy/`, before a server of the test's.

The system's, or those that `make build/proxies/.unpacked` has unpacked; where there is none, the test is skipped.
"""

import asyncio
import contextlib
import os
import re
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.certificates import CertificateFiles, trusting
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
_UNPACKED = ROOT / "build" / "proxies"
_START_SECONDS = 40.0
_END_SECONDS = 20.0


class Proxy(NamedTuple):
    """A proxy that takes clients."""

    port: int
    tls: ssl.SSLContext
    """For a client that trusts its certificate."""
    folder: Path
    command: tuple[str, ...]
    """Program and arguments, to which those that tell it something are added."""
    environ: dict[str, str]

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    async def tell(self, *arguments: str) -> None:
        """Runs its program once more, which tells the running one something, as in `-s reload`."""
        process = await asyncio.create_subprocess_exec(
            *self.command, *arguments, env=self.environ, cwd=self.folder, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(_END_SECONDS):
            _, said = await process.communicate()
        assert process.returncode == 0, said.decode()


def program_of(name: str) -> str:
    """Path of `nginx` or `caddy`; skips the test where there is none."""
    for found in (shutil.which(name), *(str(_UNPACKED / place / name) for place in ("usr/sbin", "usr/bin"))):
        if found and Path(found).is_file():
            return found
    pytest.skip(f"{name} is not installed; `make build/proxies/.unpacked` fetches Debian's")


def _nginx_site(folder: Path, port: int, server_port: int) -> str:
    """`deploy/nginx/jasaweb-rt.conf` with ports and certificate of the test, and all else as it is."""
    files = CertificateFiles(folder)
    return _replaced(
        "jasaweb-rt.conf",
        ("listen 443 ssl http2", f"listen 127.0.0.1:{port} ssl http2"),
        ("listen [::]:443 ssl http2", f"listen [::1]:{port} ssl http2"),
        ("server 127.0.0.1:8000", f"server 127.0.0.1:{server_port}"),
        ("server_name rt.example.org", "server_name localhost"),
        ("/etc/letsencrypt/live/rt.example.org/fullchain.pem", str(files.cert)),
        ("/etc/letsencrypt/live/rt.example.org/privkey.pem", str(files.key)),
    )


def _nginx_tls(certificate: Path) -> str:
    """`deploy/nginx/tls-to-the-server.conf`, for a server that has this certificate."""
    return _replaced(
        "tls-to-the-server.conf",
        ("proxy_ssl_name rt.example.org", "proxy_ssl_name localhost"),
        ("/etc/ssl/certs/ca-certificates.crt", str(certificate)),
    )


def _replaced(name: str, *replacements: tuple[str, str]) -> str:
    """A file for nginx in which each of these texts, found once, was replaced."""
    text = (DEPLOY / "nginx" / name).read_text()
    for there, here in replacements:
        whole = rf"(?<=\s){re.escape(there)};"
        assert len(re.findall(whole, text)) == 1, there
        text = text.replace(f"{there};", f"{here};")
    return text


@asynccontextmanager
async def nginx(folder: Path, server_port: int, certificate: Path | None = None) -> AsyncIterator[Proxy]:
    """The proxy nginx before the server on `server_port`, from its taking clients to the end of the block.

    `certificate`: that server's own, which then speaks TLS.
    """
    program = program_of("nginx")
    port = free_port()
    site = _nginx_site(folder, port, server_port)
    if certificate is not None:
        (folder / "tls.conf").write_text(_nginx_tls(certificate))
        site = site.replace("proxy_pass http:", "proxy_pass https:")
        site = site.replace("server_name localhost;", f"server_name localhost; include {folder}/tls.conf;")
    (folder / "site.conf").write_text(site)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = folder / "nginx.conf"
    main.write_text(
        f"""
        {"user root;" if os.geteuid() == 0 else ""}
        worker_processes 1;
        daemon off;
        pid {folder}/nginx.pid;
        error_log stderr warn;
        events {{ worker_connections 256; }}
        http {{ access_log {folder}/access.log; {temporary} include {folder}/site.conf; }}
        """
    )
    command = (program, "-p", str(folder), "-e", "stderr", "-c", str(main))
    async with _running(Proxy(port, trusting(), folder, command, dict(os.environ))) as proxy:
        yield proxy


@asynccontextmanager
async def caddy(folder: Path, server_port: int) -> AsyncIterator[Proxy]:
    """The proxy Caddy before the server on `server_port`, with a certificate of its own authority."""
    program = program_of("caddy")
    port = free_port()
    main = folder / "Caddyfile"
    # Nothing of it outside of the folder: no administration by TCP, no port 80, no authority for the whole system.
    main.write_text(
        f"""
        {{
            admin unix//{folder}/admin.sock
            auto_https disable_redirects
            skip_install_trust
        }}
        import {DEPLOY / "caddy" / "Caddyfile"}
        """
    )
    environ = dict(os.environ) | {
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "JASAWEB_RT_SITE": f"https://localhost:{port}",
        "JASAWEB_RT_SERVERS": f"127.0.0.1:{server_port}",
    }
    authority = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    proxy = Proxy(port, ssl.create_default_context(), folder, (program,), environ)
    async with _running(proxy, "run", "--adapter", "caddyfile", "--config", str(main)):
        proxy.tls.load_verify_locations(authority)
        yield proxy


@asynccontextmanager
async def _running(proxy: Proxy, *arguments: str) -> AsyncIterator[Proxy]:
    """Runs it, and waits until it speaks TLS."""
    log = proxy.folder / "proxy.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *proxy.command, *arguments, env=proxy.environ, cwd=proxy.folder, stdout=output, stderr=output
        )
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _speaks_tls(proxy.port):
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.02)
        yield proxy
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _speaks_tls(port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
