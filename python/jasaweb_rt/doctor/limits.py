"""What the system allows: descriptors, queues of the kernel, ports, memory."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jasaweb_rt.config import PREFIX, Settings, default_max_connections, max_connections_for
from jasaweb_rt.doctor.configuration import is_loopback
from jasaweb_rt.doctor.findings import Finding, Verdict

__all__ = ["BACKLOG", "look"]

BACKLOG: Final = 4096
"""Connections that may wait to be accepted: what `rust_core/src/listener.rs` asks the kernel for."""

_SYN_BACKLOG: Final = 1024
_FEW_DESCRIPTORS: Final = 4096
# Measured: benches/RESULTS.md, docs/architecture.md ("Under TLS"). The kernel's own is what its objects for an idle
# socket have in size (TCP, sock_inode_cache, filp, dentry, eventpoll_epi in /proc/slabinfo).
_IDLE_BYTES: Final = 1475
_TLS_BYTES: Final = 9 * 1024
_KERNEL_BYTES: Final = 4 * 1024
_PROCESS_BYTES: Final = 150 * 1024 * 1024
# One of a hundred clients that stop reading, each with a full queue: what the benchmarks try.
_STALLED: Final = 0.01


def look(settings: Settings, root: Path = Path("/")) -> Iterator[Finding]:
    """Says what of the limits fits `settings`; `root` is where `proc` and `sys` are."""
    yield from _descriptors(settings)
    yield from _backlog(root / "proc/sys/net")
    yield from _ports(settings, root / "proc/sys/net/ipv4")
    yield from _conntrack(settings, root / "proc/sys/net/netfilter")
    yield from _memory(settings, root)


def _descriptors(settings: Settings) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        yield _finding("ok", "`ulimit -n` is unlimited")
        return
    fit, wanted = max_connections_for(soft), settings.max_connections
    raise_it = "raise it (`ulimit -n`, LimitNOFILE= of systemd)"
    if wanted > fit:
        yield _finding(
            "wrong",
            f"{wanted:,} connections are allowed, and {fit:,} fit into `ulimit -n` {soft:,}; {raise_it}, or lower "
            f"{PREFIX}MAX_CONNECTIONS",
        )
    elif wanted == 0:
        yield _finding(
            "advice",
            f"{PREFIX}MAX_CONNECTIONS is off, and beyond some {fit:,} connections `ulimit -n` {soft:,} is used up; set "
            "it to that or less",
        )
    elif soft < min(_FEW_DESCRIPTORS, hard if hard != resource.RLIM_INFINITY else _FEW_DESCRIPTORS):
        yield _finding("advice", f"`ulimit -n` is {soft:,}, room for {fit:,} connections; {raise_it} for more")
    else:
        yield _finding("ok", f"{wanted:,} connections fit into `ulimit -n` {soft:,}")


def _backlog(net: Path) -> Iterator[Finding]:
    for file, least in (("core/somaxconn", BACKLOG), ("ipv4/tcp_max_syn_backlog", _SYN_BACKLOG)):
        name = f"net.{file.replace('/', '.')}"
        found = _number(net / file)
        if found is not None and found < least:
            yield _finding(
                "advice",
                f"{name} is {found:,}, so in a storm of connections some are dropped and come again a second later; "
                f"sysctl -w {name}={least}",
            )
        elif found is not None:
            yield _finding("ok", f"{name} is {found:,}")


def _ports(settings: Settings, ipv4: Path) -> Iterator[Finding]:
    try:
        first, last = (int(number) for number in (ipv4 / "ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        return
    reserved = ""
    with contextlib.suppress(OSError):
        reserved = (ipv4 / "ip_local_reserved_ports").read_text().strip()
    if first <= settings.port <= last and not _is_listed(settings.port, reserved):
        yield _finding(
            "advice",
            f"port {settings.port} is one that the system lends to outgoing connections ({first} to {last}), so "
            f"a start may find it taken; sysctl -w net.ipv4.ip_local_reserved_ports={settings.port}",
        )
    proxied_here = any(is_loopback(network.partition("/")[0]) for network in settings.trusted_proxies)
    count = last - first + 1
    if proxied_here and (settings.max_connections == 0 or settings.max_connections > count):
        yield _finding(
            "advice",
            f"a proxy on this machine has {count:,} ports for connections to one address; let it connect to several "
            "(127.0.0.1, 127.0.0.2 …), or sysctl -w net.ipv4.ip_local_port_range='1024 65535'",
        )


def _conntrack(settings: Settings, netfilter: Path) -> Iterator[Finding]:
    room = _number(netfilter / "nf_conntrack_max")
    # A client's connection, and the proxy's for it.
    wanted = settings.max_connections * (2 if settings.trusted_proxies else 1)
    if room is not None and room < wanted * 1.25:
        yield _finding(
            "advice",
            f"net.netfilter.nf_conntrack_max is {room:,}, and {wanted:,} connections may be open; where a firewall "
            f"tracks them, sysctl -w net.netfilter.nf_conntrack_max={int(wanted * 1.25)}",
        )


def _memory(settings: Settings, root: Path) -> Iterator[Finding]:
    available = _available(root)
    if available is None:
        return
    each = _IDLE_BYTES + _KERNEL_BYTES + (_TLS_BYTES if settings.tls_cert else 0)
    idle = _PROCESS_BYTES + settings.max_connections * each
    stalled = int(settings.max_connections * _STALLED) * settings.send_queue_bytes
    fit = max(0, available - _PROCESS_BYTES) // each
    if idle > available:
        # Where nobody has asked for so many, they are only allowed.
        verdict: Verdict = "advice" if settings.max_connections == default_max_connections() else "wrong"
        yield _finding(
            verdict,
            f"{settings.max_connections:,} idle connections take {_mib(idle)}, and {_mib(available)} are available; "
            f"lower {PREFIX}MAX_CONNECTIONS, {fit:,} fit",
        )
    elif idle + stalled > available:
        yield _finding(
            "advice",
            f"where one of a hundred of {settings.max_connections:,} clients stops reading, they take up to "
            f"{_mib(idle + stalled)}, and {_mib(available)} are available; lower {PREFIX}SEND_QUEUE_BYTES or "
            f"{PREFIX}MAX_CONNECTIONS",
        )
    else:
        yield _finding(
            "ok", f"{settings.max_connections:,} idle connections take {_mib(idle)} of {_mib(available)} available"
        )


def _available(root: Path) -> int | None:
    """Bytes of memory that are to be had: of the machine, and of the control group (version 2, else 1) we are in."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024)
    groups = root / "sys/fs/cgroup"
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, now = _number(groups / limit), _number(groups / used)
        if most is not None and now is not None:
            found.append(max(0, most - now))
    return min(found, default=None)


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none (`max`), or no such file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _is_listed(port: int, ranges: str) -> bool:
    """Whether `ranges`, as in `8000,9000-9010`, has the port."""
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        if int(first) <= port <= int(last or first):
            return True
    return False


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MiB"


def _finding(verdict: Verdict, text: str) -> Finding:
    return Finding(verdict, "limits", text)
