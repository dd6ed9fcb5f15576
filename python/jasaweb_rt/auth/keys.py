"""The keys that are in use, in one place, so that they can be replaced while the server runs."""

from jasaweb_rt.config import Keys

__all__ = ["KeyRing"]


class KeyRing:
    """Whoever signs or checks something asks here each time. May be used from any thread."""

    def __init__(self, keys: Keys) -> None:
        self.current = keys
        """Replaced as a whole: who takes it once has keys that belong together."""
