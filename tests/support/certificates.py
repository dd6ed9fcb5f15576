"""Certificates for tests, good for loopback until 2120, and clients that trust them. Each vouches for itself."""

import shutil
import ssl
from pathlib import Path

_FOLDER = Path(__file__).parent.parent / "data" / "tls"


class CertificateFiles:
    """A certificate and its key in a folder of the test, where they can be replaced."""

    def __init__(self, folder: Path, name: str = "first") -> None:
        self.cert = folder / "cert.pem"
        self.key = folder / "key.pem"
        self.replace(name)

    def replace(self, name: str) -> None:
        """Puts the certificate `first` or `second` there."""
        shutil.copyfile(_FOLDER / f"{name}.crt", self.cert)
        shutil.copyfile(_FOLDER / f"{name}.key", self.key)


def trusting(name: str = "first") -> ssl.SSLContext:
    """For a client that trusts the certificate `first` or `second`, and no other."""
    return ssl.create_default_context(cafile=_FOLDER / f"{name}.crt")
