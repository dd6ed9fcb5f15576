"""What must not be written anywhere, and where it was."""

from pathlib import Path

_EACH_END = 12
"""Letters of a part of a token by which it is known: a log may cut what it shows."""


class Secrets:
    """Secrets by name."""

    def __init__(self) -> None:
        self._parts: dict[str, str] = {}

    def add(self, name: str, secret: str) -> str:
        """A password or key, as it is; returns it."""
        self._parts[name] = secret
        return secret

    def add_token(self, name: str, token: str) -> str:
        """A JWT: its claims as they travel and its signature, each also where only one end of it is shown."""
        _, claims, signature = token.split(".")
        self._parts[f"the claims of {name}"] = claims
        self._parts[f"the signature of {name}"] = signature[:_EACH_END]
        self._parts[f"the end of the signature of {name}"] = signature[-_EACH_END:]
        return token

    def found_in(self, where: str, written: str | bytes) -> list[str]:
        """What of them stands in `written`, each with `where`."""
        data = written.encode() if isinstance(written, str) else written
        return [f"{name} in {where}" for name, part in self._parts.items() if part.encode() in data]

    def found_below(self, folder: Path, but: Path | None = None) -> list[str]:
        """What of them stands in files, at any depth, but for those below another folder."""
        return [
            found
            for path in sorted(folder.rglob("*"))
            if path.is_file() and (but is None or but not in path.parents)
            for found in self.found_in(str(path), _read(path))
        ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # a server removes its files while it runs
        return b""
