"""What systemd is told of this process, where it asks for that (`Type=notify`)."""

import contextlib
import os
import socket

__all__ = ["READY", "STOPPING", "tell_supervisor"]

READY = "READY=1"
STOPPING = "STOPPING=1"


def tell_supervisor(state: str) -> None:
    """Sends a line of sd_notify(3) to the socket that `NOTIFY_SOCKET` names, if it names one. Never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    # Other kinds, such as vsock, are for virtual machines.
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        out.sendto(state.encode(), address)
