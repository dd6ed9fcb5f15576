"""Where secrets come from: a variable, a file that a variable names, one that was generated here, or another secret."""

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from jasaweb_rt.config_source import variable
from jasaweb_rt.exceptions import ConfigurationError

__all__ = ["MINIMUM_BYTES", "derive", "generated", "resolve"]

logger = logging.getLogger(__name__)

MINIMUM_BYTES = 32
"""RFC 7518 section 3.2: a key of HS256 is at least as long as its hash."""


def resolve(texts: Mapping[str, str], field: str, *, may_be_empty: bool = False) -> str | None:
    """The secret of `field` in `texts` (by field), or of the file in `<field>_file`; None where neither is set.

    `may_be_empty`: a file with nothing in it holds no secret, which is an error otherwise.

    Raises:
        ConfigurationError: both are set, the file cannot be read, or the secret is too short.
    """
    name, file_name = variable(field), variable(f"{field}_file")
    if field in texts and f"{field}_file" in texts:
        raise ConfigurationError(f"{name} and {file_name} are both set; keep one of them.")
    if field in texts:
        return _checked(name, texts[field])
    if path := texts.get(f"{field}_file"):
        try:
            secret = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file_name} names a file that cannot be read ({error}).") from None
        return None if may_be_empty and not secret else _checked(file_name, secret)
    if f"{field}_file" in texts:
        raise ConfigurationError(f"{file_name} is empty; name a file or unset it.")
    return None


def generated(path: Path) -> str:
    """The secret kept in the file `path`, which is made, readable by its owner only, where it does not exist yet.

    Several processes may come here at once: all get the same secret.
    """
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create(path, secrets.token_urlsafe(48))
            logger.warning(
                "%s is not set: made one and kept it in %s; set the site's own to accept sessions of the site",
                variable("jwt_secret"),
                path,
            )
        return _checked(str(path), path.read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"No {variable('jwt_secret')} is set and none can be kept in {path} ({error}); set it to 32 bytes or more."
        ) from None


def derive(secret: str, label: str) -> str:
    """A secret for another purpose, named by `label`, from which `secret` cannot be found (HMAC-SHA256, in hex)."""
    return hmac.new(secret.encode(), label.encode(), hashlib.sha256).hexdigest()


def _create(path: Path, secret: str) -> None:
    # Written aside and linked: nobody sees half a file, and whoever links second keeps the first one's secret.
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        Path(aside).unlink()


def _checked(name: str, secret: str) -> str:
    if not secret:
        raise ConfigurationError(f"{name} is empty; set it to {MINIMUM_BYTES} bytes or more, or unset it.")
    if len(secret.encode()) < MINIMUM_BYTES:
        raise ConfigurationError(
            f"{name} is too short: {len(secret.encode())} bytes where at least {MINIMUM_BYTES} are needed;"
            " `openssl rand -base64 48` makes a good one."
        )
    return secret
