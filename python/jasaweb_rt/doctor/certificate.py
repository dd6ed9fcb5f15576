"""The TLS certificate: for how long, for whom, and whether anybody vouches for it.

OpenSSL is asked by a handshake in memory; that the two files fit each other, the core has said before.
"""

import ssl
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from jasaweb_rt.config import PREFIX, Settings
from jasaweb_rt.doctor.findings import Finding, Verdict

__all__ = ["look"]

_SOON_SECONDS: Final = 14 * 86_400
"""Who renews by themselves does it earlier than that."""
_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL: we compare the times ourselves
_STEPS: Final = 8  # a handshake of TLS 1.3 takes four


def look(settings: Settings, now: float | None = None) -> Iterator[Finding]:
    """Says what is to be said of the certificate of `settings`, if there is one, at the moment `now` (Unix time)."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    now = time.time() if now is None else now
    host = urlsplit(settings.public_url or "").hostname
    try:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A password, lest OpenSSL asks for one; the core takes no key that needs it.
        server.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
        certificate = _handshake(server, _believing(settings.tls_cert), None)
    except (OSError, ValueError) as error:
        yield _finding(
            "wrong", f"{settings.tls_cert} cannot be used ({error}); put a PEM certificate and its key there"
        )
        return
    yield _validity(settings.tls_cert, certificate, now)
    if host is not None and (why := _refusal(server, _believing(settings.tls_cert), host)):
        names = ", ".join(value for _, value in certificate.get("subjectAltName", ())) or "nobody"
        yield _finding(
            "wrong",
            f"{settings.tls_cert} is for {names} and not for {host}, which {PREFIX}PUBLIC_URL names ({why}); get one "
            "for that name",
        )
    stranger = ssl.create_default_context()
    stranger.verify_flags |= _NO_CHECK_TIME
    stranger.check_hostname = False
    if why := _refusal(server, stranger, host):
        yield _finding(
            "advice",
            f"no authority that this machine knows vouches for {settings.tls_cert} ({why}); where browsers are to "
            "trust it, put the whole chain into that file",
        )


def _validity(path: str, certificate: dict[str, Any], now: float) -> Finding:
    begins, ends = (ssl.cert_time_to_seconds(certificate[name]) for name in ("notBefore", "notAfter"))
    if now >= ends:
        return _finding("wrong", f"{path} has expired ({certificate['notAfter']}); renew it")
    if now < begins:
        return _finding("wrong", f"{path} is not valid yet ({certificate['notBefore']}); see that the clock is right")
    if ends - now < _SOON_SECONDS:
        return _finding(
            "advice", f"{path} expires in {int((ends - now) // 86_400)} days; renew it, and see why nothing else does"
        )
    return _finding("ok", f"{path} is valid until {certificate['notAfter']}")


def _believing(path: str) -> ssl.SSLContext:
    """A client that believes the certificate in the file `path`, whoever made it and whatever the time is."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(path)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    return client


def _refusal(server: ssl.SSLContext, client: ssl.SSLContext, host: str | None) -> str | None:
    """Why `client` does not believe `server` to be `host`; None: it does."""
    client.check_hostname = host is not None
    try:
        _handshake(server, client, host)
    except ssl.SSLCertVerificationError as error:
        return str(error.verify_message)
    return None


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str | None) -> dict[str, Any]:
    """The server's certificate, as the client sees it. OSError: they do not agree."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=host)
    ends = [near, server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(_STEPS):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    certificate = near.getpeercert()
    if ends or not certificate:
        raise OSError("the handshake does not come to an end")
    return dict(certificate)


def _finding(verdict: Verdict, text: str) -> Finding:
    return Finding(verdict, "configuration", text)
