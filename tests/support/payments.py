"""Payment notifications as Midtrans posts them, and what came of them."""

from typing import Any

import asyncpg

from jasaweb_rt.database import notifications
from jasaweb_rt.domain.midtrans import signature

KEY = "SB-Mid-server-of-the-tests"
"""The server key that they are signed with."""


def midtrans_body(
    status: str, order: str = "order-i-other", amount: str = "7.00", code: str = "200", **more: Any
) -> dict[str, Any]:
    """A signed notification, with fields that nobody looks at; `more` is added, or replaces what is there."""
    return {
        "transaction_time": "2026-01-02 10:04:05",
        "transaction_status": status,
        "transaction_id": "57d5293c-e65f-4a29-95e4-5959c3fa335b",
        "status_message": "midtrans payment notification",
        "status_code": code,
        "signature_key": signature(order, code, amount, KEY),
        "payment_type": "qris",
        "order_id": order,
        "gross_amount": amount,
        "currency": "IDR",
        **more,
    }


async def told(connection: asyncpg.Connection, user_id: str) -> list[tuple[str, Any]]:
    """Type and data of a user's notifications."""
    page = await notifications.inbox(connection, user_id)
    return [(item.type, item.data) for item in page.items]


async def state(connection: asyncpg.Connection) -> tuple[Any, ...]:
    """Status of the invoice `i-other` and of its project, when it was paid, and how many notifications there are."""
    return tuple(
        await connection.fetchrow(
            """
            select i.status::text, p.status::text, i.paid_at, (select count(*) from real_time_notifications)
            from invoices i join projects p on p.id = i.project_id where i.id = 'i-other'
            """
        )
    )
