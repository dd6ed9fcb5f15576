"""The whole program as users start it, with its embedded PostgreSQL, and the people who use it in a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import bcrypt
import httpx

from jasaweb_rt.domain.midtrans import signature

PASSWORD = "test-password"
MIDTRANS_SERVER_KEY = "SB-Mid-server-of-the-browser-tests"
START_DEADLINE = 60.0
"""Seconds for the first start, which makes a database cluster."""
STOP_DEADLINE = 20.0
REQUEST_DEADLINE = 20.0
_URL = re.compile(r"https?://127\.0\.0\.1:\d+")


class Person:
    """Somebody with an account."""

    def __init__(self, user_id: str, email: str, name: str) -> None:
        self.id = user_id
        self.email = email
        self.name = name


class Application:
    """A running server, and its database as a foreign program sees it."""

    def __init__(self, url: str, pool: asyncpg.Pool) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self._pool = pool

    async def new_person(self, role: str = "client", *, name: str = "Dewi Lestari") -> Person:
        """Makes an account that no other test uses."""
        user_id = str(uuid.uuid4())
        person = Person(user_id, f"{user_id}@example.test", name)
        password = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        await self._pool.execute(
            'INSERT INTO users (id, email, password, name, role) VALUES ($1, $2, $3, $4, $5::text::"Role")',
            user_id,
            person.email,
            password,
            name,
            role,
        )
        return person

    async def new_project(self, owner: Person, name: str, *, kind: str = "sekolah", status: str = "in_progress") -> str:
        """Makes a project; its id."""
        project_id = str(uuid.uuid4())
        await self._pool.execute(
            "INSERT INTO projects (id, user_id, name, type, status, updated_at)"
            ' VALUES ($1, $2, $3, $4::text::"ProjectType", $5::text::"ProjectStatus", now())',
            project_id,
            owner.id,
            name,
            kind,
            status,
        )
        return project_id

    async def new_invoice(
        self, project_id: str, *, amount: int = 1_500_000, status: str = "unpaid", paid: datetime | None = None
    ) -> str:
        """Makes an invoice, which is also its order at Midtrans; its id. `amount` in rupiah, `paid` aware."""
        invoice_id = str(uuid.uuid4())
        await self._pool.execute(
            "INSERT INTO invoices (id, project_id, amount, status, midtrans_order_id, paid_at)"
            " VALUES ($1, $2, $3, $4::text::\"InvoiceStatus\", $1, $5::timestamptz AT TIME ZONE 'UTC')",
            invoice_id,
            project_id,
            amount,
            status,
            paid,
        )
        return invoice_id

    async def report_payment(
        self, invoice_id: str, status: str = "settlement", *, amount: int = 1_500_000, code: str = "200"
    ) -> None:
        """Midtrans reports what became of the payment of an invoice; `status` and `code` are their words."""
        gross_amount = f"{amount}.00"
        async with httpx.AsyncClient(base_url=self.url, timeout=REQUEST_DEADLINE) as client:
            answer = await client.post(
                "/api/webhooks/midtrans",
                json={
                    "transaction_status": status,
                    "fraud_status": "accept",
                    "status_code": code,
                    "order_id": invoice_id,
                    "gross_amount": gross_amount,
                    "signature_key": signature(invoice_id, code, gross_amount, MIDTRANS_SERVER_KEY),
                },
            )
            answer.raise_for_status()

    async def insert(self, owner: Person, title: str, *, kind: str = "project_update", message: str = "") -> str:
        """What any foreign program may do: one plain INSERT of a notification; its id."""
        notification_id = str(uuid.uuid4())
        await self._pool.execute(
            "INSERT INTO real_time_notifications (id, user_id, type, title, message)"
            ' VALUES ($1, $2, $3::text::"NotificationType", $4, $5)',
            notification_id,
            owner.id,
            kind,
            title,
            message,
        )
        return notification_id

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Any other statement."""
        await self._pool.execute(statement, *arguments)

    async def value(self, query: str, *arguments: Any) -> Any:
        """The one value that a query finds."""
        return await self._pool.fetchval(query, *arguments)

    @contextlib.asynccontextmanager
    async def session(self, person: Person) -> AsyncIterator[httpx.AsyncClient]:
        """The HTTP interface under somebody's session, as a program of theirs would use it."""
        async with httpx.AsyncClient(
            base_url=self.url, headers={"origin": self.url}, timeout=REQUEST_DEADLINE
        ) as client:
            answer = await client.post("/api/auth/login", json={"email": person.email, "password": PASSWORD})
            answer.raise_for_status()
            client.headers["authorization"] = f"Bearer {answer.cookies['auth_token']}"
            client.cookies.clear()
            yield client

    async def set_status(self, admin: Person, project_id: str, status: str) -> None:
        """Changes a project's status."""
        async with self.session(admin) as client:
            (await client.patch(f"/api/projects/{project_id}", json={"status": status})).raise_for_status()

    async def write(self, sender: Person, recipient: Person, subject: str, content: str) -> None:
        """Sends a message from one to another."""
        async with self.session(sender) as client:
            body = {"toUserId": recipient.id, "subject": subject, "content": content}
            (await client.post("/api/messages", json=body)).raise_for_status()


@contextlib.asynccontextmanager
async def application(folder: Path, **settings: str) -> AsyncIterator[Application]:
    """Starts `jasaweb-rt serve --demo` in an empty folder, and stops it as Ctrl-C does; `settings` without prefix."""
    command = str(Path(sys.executable).parent / "jasaweb-rt")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("JASAWEB_RT_")}
    environment = {**inherited, "JASAWEB_RT_PORT": "0", "JASAWEB_RT_MIDTRANS_SERVER_KEY": MIDTRANS_SERVER_KEY}
    environment |= {f"JASAWEB_RT_{name}": value for name, value in settings.items()}
    environment.pop("DATABASE_URL", None)
    process = await asyncio.create_subprocess_exec(
        command,
        "serve",
        "--demo",
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output: list[str] = []
    reading = asyncio.Event()
    url = ""

    async def read() -> None:
        nonlocal url
        assert process.stdout is not None
        async for line in process.stdout:
            output.append(line.decode())
            if not url and (found := _URL.search(output[-1])):
                url = found[0]
                reading.set()
        reading.set()

    reader = asyncio.create_task(read())
    try:
        await asyncio.wait_for(reading.wait(), START_DEADLINE)
        assert url, f"the server did not start:\n{''.join(output)}"
        finding = await asyncio.create_subprocess_exec(
            command, "database-url", cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
        )
        database_url = (await asyncio.wait_for(finding.communicate(), START_DEADLINE))[0].decode().strip()
        async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool:
            yield Application(url, pool)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), STOP_DEADLINE)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        finally:
            await reader
    assert process.returncode == 0, "".join(output)
