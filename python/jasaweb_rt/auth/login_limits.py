"""How often somebody may try a password, by address and by account, and begin a session; in bounded memory.

Of tries only failures count. What an account allows of them is the same whether it exists or not.
"""

import hashlib
import ipaddress
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from jasaweb_rt.exceptions import TooManyRequestsError

__all__ = ["Allowance", "LoginLimits"]

_CAPACITY = 65_536
# Whoever has an office's address in common may mistype, too.
_OF_ADDRESS = (20, 6.0)
_OF_ACCOUNT = (10, 30.0)
# Each session that is then ended is a row that is read with its user until it would have been over. A program that logs
# in for each of its runs has enough.
_SESSIONS = (60, 10.0)


class Allowance:
    """So many at once, and one more every so often, for each of very many keys (GCRA, ITU-T I.371 annex A).

    A hash and a time are kept of as many keys as there is room for; beyond, who was idle longest is forgotten.
    """

    def __init__(
        self, burst: int, seconds: float, capacity: int = _CAPACITY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._tolerance = burst * seconds
        self._capacity = capacity
        self._clock = clock
        self._hash_key = secrets.token_bytes(16)
        # When a key's allowance will be whole again, those that were touched last behind.
        self._whole: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._whole)

    def wait(self, key: str) -> float:
        """Seconds until `key` may have one; 0: at once."""
        now = self._clock()
        return max(0.0, self._whole.get(self._hash(key), now) + self._seconds - self._tolerance - now)

    def take(self, key: str) -> None:
        """Takes one of what `key` has left."""
        now, hashed = self._clock(), self._hash(key)
        self._whole[hashed] = max(now, self._whole.pop(hashed, now)) + self._seconds
        while len(self._whole) > self._capacity or next(iter(self._whole.values())) <= now:
            self._whole.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Gives back one that was taken."""
        hashed = self._hash(key)
        if hashed in self._whole:
            self._whole[hashed] -= self._seconds

    def _hash(self, key: str) -> int:
        digest = hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8, key=self._hash_key)
        return int.from_bytes(digest.digest(), "big")


class LoginLimits:
    """All three limits. Belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._addresses = Allowance(*_OF_ADDRESS, clock=clock)
        self._accounts = Allowance(*_OF_ACCOUNT, clock=clock)
        self._sessions = Allowance(*_SESSIONS, clock=clock)

    def begin(self, address: str, account: str) -> None:
        """Counts a try of `account` (an e-mail address) from `address`.

        Raises:
            TooManyRequestsError: one of them has none left; nothing was counted.
        """
        address, account = _network(address), account.strip().lower()
        wait = max(self._addresses.wait(address), self._accounts.wait(account))
        if wait > 0:
            raise TooManyRequestsError("Too many failed log-ins; try again later.", retry_after=math.ceil(wait))
        self._addresses.take(address)
        self._accounts.take(account)

    def give_back(self, address: str, account: str) -> None:
        """Forgets a try: it was right, or came to nothing."""
        self._addresses.give_back(_network(address))
        self._accounts.give_back(account.strip().lower())

    def begin_session(self, user_id: str) -> None:
        """Counts a session that begins, of somebody whose password was right; others learn nothing of this limit.

        Raises:
            TooManyRequestsError: the user has none left; nothing was counted.
        """
        wait = self._sessions.wait(user_id)
        if wait > 0:
            raise TooManyRequestsError("Too many log-ins; try again later.", retry_after=math.ceil(wait))
        self._sessions.take(user_id)


def _network(address: str) -> str:
    """What stands for one client: an IPv4 address, or the /64 that a client with IPv6 has for itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
