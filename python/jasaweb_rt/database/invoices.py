"""The site's table `invoices`."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

import asyncpg
import msgspec

from jasaweb_rt.exceptions import NotFoundError

InvoiceStatus = Literal["unpaid", "paid", "pending", "failed", "cancelled", "expired", "refunded", "partial_refunded"]

_COLUMNS = """i.id, i.project_id, p.name as project_name, i.amount, i.status::text, i.midtrans_order_id, i.qris_url,
  i.paid_at at time zone 'UTC' as paid_at, i.created_at at time zone 'UTC' as created_at"""


class Invoice(msgspec.Struct, frozen=True):
    """An invoice, with its project's name. Times are aware, in UTC."""

    id: str
    project_id: str
    project_name: str
    amount: Decimal
    """Rupiah, two decimals."""
    status: InvoiceStatus
    midtrans_order_id: str | None
    qris_url: str | None
    paid_at: datetime | None
    created_at: datetime


class NewInvoice(msgspec.Struct, frozen=True):
    """An invoice to be inserted."""

    id: str
    project_id: str
    amount: Decimal
    status: InvoiceStatus = "unpaid"
    midtrans_order_id: str | None = None


async def list_for(connection: asyncpg.Connection, user_id: str | None) -> list[Invoice]:
    """The invoices of a user's projects, or everyone's where `user_id` is None; the newest first."""
    rows = await connection.fetch(
        f"""
        select {_COLUMNS} from public.invoices i join public.projects p on p.id = i.project_id
        where {"$1::text is null" if user_id is None else "p.user_id = $1"} order by i.created_at desc, i.id
        """,  # noqa: S608
        user_id,
    )
    return [_invoice(row) for row in rows]


async def find_by_order_for_update(connection: asyncpg.Connection, order_id: str) -> list[Invoice]:
    """The invoices of a Midtrans order, locked against other writers until the transaction ends.

    There should be one at most; the site's table does not say so, hence a list, of two where there are more.
    """
    rows = await connection.fetch(
        f"""
        select {_COLUMNS} from public.invoices i join public.projects p on p.id = i.project_id
        where i.midtrans_order_id = $1 order by i.id limit 2 for no key update of i
        """,  # noqa: S608
        order_id,
    )
    return [_invoice(row) for row in rows]


async def get_for_update(connection: asyncpg.Connection, invoice_id: str) -> Invoice | None:
    """The invoice with this id, locked against other writers until the transaction ends; or None."""
    row = await connection.fetchrow(
        f"""
        select {_COLUMNS} from public.invoices i join public.projects p on p.id = i.project_id
        where i.id = $1 for no key update of i
        """,  # noqa: S608
        invoice_id,
    )
    return None if row is None else _invoice(row)


async def set_status(connection: asyncpg.Connection, invoice_id: str, status: InvoiceStatus) -> Invoice:
    """Sets the status, and `paid_at` where that is `paid`; returns the invoice as it is then.

    NotFoundError: there is none with this id.
    """
    row = await connection.fetchrow(
        f"""
        update public.invoices i set status = $2::text::public."InvoiceStatus",
          paid_at = case when $2::text = 'paid' then now() at time zone 'UTC' else i.paid_at end
        from public.projects p where i.id = $1 and p.id = i.project_id returning {_COLUMNS}
        """,  # noqa: S608
        invoice_id,
        status,
    )
    if row is None:
        raise NotFoundError(f"There is no invoice {invoice_id}")
    return _invoice(row)


async def insert_missing(connection: asyncpg.Connection, invoices: Sequence[NewInvoice]) -> list[str]:
    """Inserts those of `invoices` whose id is free; returns their ids."""
    rows = await connection.fetch(
        """
        insert into public.invoices (id, project_id, amount, status, midtrans_order_id, created_at)
        select id, project_id, amount, status::public."InvoiceStatus", midtrans_order_id, now() at time zone 'UTC'
        from unnest($1::text[], $2::text[], $3::numeric[], $4::text[], $5::text[])
          as new (id, project_id, amount, status, midtrans_order_id)
        on conflict (id) do nothing returning id
        """,
        [invoice.id for invoice in invoices],
        [invoice.project_id for invoice in invoices],
        [invoice.amount for invoice in invoices],
        [invoice.status for invoice in invoices],
        [invoice.midtrans_order_id for invoice in invoices],
    )
    return [row["id"] for row in rows]


def _invoice(row: asyncpg.Record) -> Invoice:
    return Invoice(**dict(row.items()))
