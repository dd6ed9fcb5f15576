"""How text from the environment and from `.env` becomes checked values; what is wrong is said in one sentence."""

import difflib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

import msgspec
from dotenv import dotenv_values

from jasaweb_rt.exceptions import ConfigurationError

__all__ = [
    "PREFIX",
    "cookie_name",
    "database_url",
    "given",
    "networks",
    "origins",
    "parse",
    "public_url",
    "read",
    "split",
    "variable",
    "without_password",
]

PREFIX = "JASAWEB_RT_"
_WITHOUT_PREFIX = frozenset({"database_url"})
_SECRET = re.compile("secret(_previous)?")
# A comma may be part of a password, too.
_NEXT_URL = re.compile(r"\s*,\s*(?=[a-z]+://)")
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_HOST = re.compile(r"[0-9a-zA-Z:._-]+")
# RFC 6265 section 4.1.1: a cookie's name is a token.
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def variable(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    return field.upper() if field in _WITHOUT_PREFIX else PREFIX + field.upper()


def read(environ: Mapping[str, str], dotenv: Path | None, fields: Sequence[str]) -> dict[str, str]:
    """Texts by field, from `environ` and, where it has none, from the file `dotenv`.

    Empty ones are left out, unless they are secrets: an empty secret is a mistake that must not pass.

    Raises:
        ConfigurationError: a name with our prefix is unknown, or the file cannot be read.
    """
    found = given(environ, dotenv)
    by_variable = {variable(field): field for field in fields}
    for name in sorted(found):
        if name.startswith(PREFIX) and name not in by_variable:
            raise ConfigurationError(f"{name} is not a setting; {_hint(name, list(by_variable))}")
    return {
        field: found[name].strip()
        for name, field in by_variable.items()
        if name in found and (found[name].strip() or _SECRET.search(field))
    }


def given(environ: Mapping[str, str], dotenv: Path | None) -> dict[str, str]:
    """All variables of `environ`, and of the file `dotenv` those that it has not. ConfigurationError: unreadable."""
    return _from_file(dotenv) | dict(environ)


def parse(name: str, text: str, kind: Any) -> object:  # noqa: ANN401  # any type that a field can have
    """Converts the text of variable `name` to the type `kind`, limits included."""
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError:
        raise ConfigurationError(f"{name} is {text!r}, but must be {_wanted(kind)}.") from None


def database_url(name: str, text: str) -> str:
    """Accepts a URL of PostgreSQL. What is said of a wrong one has no part of it, which might be one of a password."""
    try:
        parts = urlsplit(text)
        _ = parts.port, parse_qsl(parts.query, strict_parsing=bool(parts.query))
        is_usable = not _is_cut_wrongly(parts)
    except ValueError:
        is_usable = False
    if text.partition(":")[0].lower() not in {"postgres", "postgresql"}:
        raise ConfigurationError(f"{name} must begin with postgresql://, as in postgresql://user:password@host/name.")
    if not is_usable:
        raise ConfigurationError(
            f"{name} is not a URL: percent-encode special characters of the password (/ is %2F, ? is %3F, # is %23, "
            "@ is %40), and see that the port is a number and each parameter is name=value."
        )
    return text


def public_url(name: str, text: str) -> str:
    """Accepts an http or https URL, and gives it without a slash at its end."""
    parts = split(name, text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigurationError(f"{name} is {text!r}, but must be a plain URL such as https://rt.example.org.")
    return text.rstrip("/")


def nats_urls(name: str, text: str) -> tuple[str, ...]:
    """Accepts the URLs of NATS servers. What is said of a wrong one has no part of it: it may be one of a password."""
    found = tuple(_NEXT_URL.split(text))
    for url in found:
        try:
            parts = urlsplit(url)
            is_usable = parts.port != 0 and not _is_cut_wrongly(parts) and bool(_HOST.fullmatch(parts.hostname or ""))
            is_usable = is_usable and parts.scheme in {"nats", "tls"} and not (parts.path.strip("/") or parts.query)
        except ValueError:
            is_usable = False
        if not is_usable:
            raise ConfigurationError(
                f"{name} must list URLs such as nats://10.0.0.5:4222, or tls://user:password@nats.example.org, with "
                "commas between them; percent-encode special characters of a password or token."
            )
    return found


def origins(name: str, text: str) -> tuple[str, ...]:
    """Accepts a list of origins (RFC 6454 section 6.2), or `*`."""
    found = tuple(origin.lower() for origin in _items(text))
    for origin in found:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"{name} names {origin!r}, but an origin is scheme, host and port alone, as in https://www.example.org."
            )
    return found


def networks(name: str, text: str) -> tuple[str, ...]:
    """Accepts a list of networks and addresses, and gives them as networks."""
    found = []
    for item in _items(text):
        try:
            found.append(str(ipaddress.ip_network(item)))
        except ValueError as error:
            raise ConfigurationError(f"{name} must list networks such as 10.0.0.0/8, but {error}.") from None
    return tuple(found)


def cookie_name(name: str, text: str) -> str:
    """Accepts what can be the name of a cookie."""
    if not _COOKIE_NAME.fullmatch(text):
        raise ConfigurationError(f"{name} is {text!r}, but the name of a cookie has no blanks and no separators.")
    return text


def without_password(url: str) -> str:
    """The URL of a database, fit to be printed."""
    try:
        parts = urlsplit(url)
        password, _ = parts.password, parts.port
    except ValueError:
        return "***"
    if _is_cut_wrongly(parts):
        return "***"
    if "password" in parts.query:
        parts = parts._replace(query="***")
    if password is not None:
        account, _, host = parts.netloc.rpartition("@")
        parts = parts._replace(netloc=f"{account.partition(':')[0]}:***@{host}")
    return urlunsplit(parts)


def without_account(url: str) -> str:
    """The URL without user, password or token, fit to be printed."""
    scheme, _, rest = url.partition("://")
    _, at, host = rest.rpartition("@")
    return f"{scheme}://***@{host}" if at else url


def _is_cut_wrongly(parts: SplitResult) -> bool:
    """Whether there is an @ where none can be: the first part of a password was taken for a host, or for all of it."""
    return parts.netloc.count("@") > 1 or "@" in parts.path or "@" in parts.fragment


def _from_file(dotenv: Path | None) -> dict[str, str]:
    if dotenv is None or not dotenv.is_file():
        return {}
    try:
        return {name: value for name, value in dotenv_values(dotenv).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{dotenv} cannot be read ({error}); mend or remove it.") from None


def _hint(name: str, known: list[str]) -> str:
    without = name.removeprefix(PREFIX)
    if without in known:
        return f"did you mean {without}, without the prefix?"
    # Without the prefix, which would make every name look alike.
    close = difflib.get_close_matches(without, [other.removeprefix(PREFIX) for other in known], n=1, cutoff=0.6)
    return f"did you mean {PREFIX}{close[0]}?" if close else "remove it, or see the README for the settings there are."


def split(name: str, text: str) -> SplitResult:
    """The parts of a URL. ConfigurationError: it is none."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # a property that refuses what is no port
    except ValueError as error:
        raise ConfigurationError(f"{name} is not a URL: {error}.") from None
    return parts


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := part.strip())]


def _wanted(kind: Any) -> str:  # noqa: ANN401  # any type that a field can have
    info = msgspec.inspect.type_info(kind)
    options = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    for option in options:
        if isinstance(option, msgspec.inspect.IntType):
            return f"a whole number from {option.ge} to {option.le}"
        if isinstance(option, msgspec.inspect.FloatType):
            lower = f"above {option.gt:g}" if option.gt is not None else f"from {option.ge:g}"
            return f"a number {lower} up to {option.le:g}"
        if isinstance(option, msgspec.inspect.BoolType):
            return "true or false"
        if isinstance(option, msgspec.inspect.LiteralType):
            return " or ".join(repr(value) for value in option.values)
    raise TypeError(kind)
