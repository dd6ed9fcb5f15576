"""What a payment does, reported by a provider or marked by hand: to the invoice, to its project, and who is told."""

import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal

import asyncpg
import msgspec

from jasaweb_rt.database import invoices, projects, users
from jasaweb_rt.database.invoices import Invoice, InvoiceStatus
from jasaweb_rt.database.notifications import NewNotification
from jasaweb_rt.database.pool import Connect
from jasaweb_rt.database.users import User
from jasaweb_rt.domain.events import DomainEvent, Emit, InvoiceStatusChanged
from jasaweb_rt.domain.notices import Notifier, notification
from jasaweb_rt.domain.projects import change_status
from jasaweb_rt.domain.transactions import in_transaction
from jasaweb_rt.exceptions import ConflictError, NotFoundError
from jasaweb_rt.messages import AdminAlert, PaymentUpdate, timestamp

__all__ = ["InvoiceService", "PaymentResult", "payment_alert", "payment_notification", "supersedes"]

logger = logging.getLogger(__name__)

# Results may come twice and in any order, so an invoice only moves up here, and ends the same whatever came first.
# An order can be tried again after a failed attempt, so a payment stands above one; a payment by card can be cancelled
# until it is settled, so a cancellation stands above a payment.
_RANK: dict[InvoiceStatus, int] = {
    "unpaid": 0,
    "pending": 1,
    "failed": 2,
    "expired": 3,
    "paid": 4,
    "cancelled": 5,
    "partial_refunded": 6,
    "refunded": 7,
}
_WORDS: dict[InvoiceStatus, tuple[str, str]] = {
    "unpaid": ("Payment due", 'The payment for "{}" is due'),
    "pending": ("Payment pending", 'The payment for "{}" is under way'),
    "failed": ("Payment failed", 'The payment for "{}" has failed'),
    "expired": ("Payment expired", 'The time to pay for "{}" is over'),
    "paid": ("Payment received", 'The payment for "{}" was received'),
    "cancelled": ("Payment cancelled", 'The payment for "{}" was cancelled'),
    "partial_refunded": ("Payment partly refunded", 'A part of the payment for "{}" was refunded'),
    "refunded": ("Payment refunded", 'The payment for "{}" was refunded'),
}


class PaymentResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a payment provider says of an order; whoever makes one has checked that it is the provider's word."""

    order_id: str
    """`midtrans_order_id` of the invoice."""
    amount: Decimal
    """Rupiah: the whole of the order, also where a part was refunded."""
    status: InvoiceStatus


def supersedes(new: InvoiceStatus, present: InvoiceStatus) -> bool:
    """Whether a result takes an invoice on; false for one that came before, or comes too late."""
    return _RANK[new] > _RANK[present]


def payment_notification(invoice: Invoice, owner_id: str) -> NewNotification:
    """What the owner is told of an invoice as it now is."""
    title, message = _WORDS[invoice.status]
    update = PaymentUpdate(
        invoice_id=invoice.id,
        project_id=invoice.project_id,
        project_name=invoice.project_name,
        amount=float(invoice.amount),
        status=invoice.status,
        paid_at=timestamp(invoice.paid_at) if invoice.paid_at else None,
    )
    return notification(owner_id, title, message.format(invoice.project_name), update)


def payment_alert(invoice: Invoice, by: str) -> AdminAlert:
    """What the administrators are told of an invoice as it now is, by the name of `by`."""
    return AdminAlert(
        event="payment_status_change",
        message=f'Invoice for "{invoice.project_name}" changed to {invoice.status} by {by}',
        project_id=invoice.project_id,
        requires_action=False,
    )


_Change = tuple[Invoice, list[DomainEvent]]
"""An invoice as it is then, and what has happened to it and its project; nothing, where it stays as it was."""


class InvoiceService:
    """Reads invoices and takes in payments, each in one transaction with what it tells."""

    def __init__(self, connect: Connect, notifier: Notifier, emit: Emit) -> None:
        self._connect = connect
        self._notifier = notifier
        self._emit = emit

    async def list_for(self, user: User) -> list[Invoice]:
        """The invoices that `user` may see: an administrator all, others those of their projects."""
        async with self._connect() as connection:
            return await invoices.list_for(connection, None if user.role == "admin" else user.id)

    async def settle(self, result: PaymentResult, by: str) -> Invoice:
        """Takes a payment result in, and returns the invoice as it then is.

        Its owner and the administrators are told of a new status. A payment takes a project on that waits for it, by
        the name of `by`, and that is told as any change of a project is. A result that was known, or comes late,
        changes and tells nothing.

        Raises:
            NotFoundError: no invoice has this order.
            ConflictError: the amount is not the invoice's, several invoices have this order, or others kept changing
                the same rows.
        """

        async def work(connection: asyncpg.Connection) -> _Change:
            invoice = _the_one(await invoices.find_by_order_for_update(connection, result.order_id))
            if invoice.amount != result.amount:
                raise ConflictError("The amount is not that of the invoice")
            if not supersedes(result.status, invoice.status):
                logger.info("invoice %s stays %s: %s was reported", invoice.id, invoice.status, result.status)
                return invoice, []
            return await self._change(connection, invoice, result.status, by)

        return await self._carry_out(work)

    async def mark_paid(self, invoice_id: str, actor: User) -> Invoice:
        """Marks an invoice as paid by hand, with all that a reported payment does; the invoice as it then is.

        One that is paid already changes and tells nothing.

        Raises:
            NotFoundError: there is no such invoice.
            ConflictError: it was cancelled or refunded, or others kept changing the same rows.
        """

        async def work(connection: asyncpg.Connection) -> _Change:
            invoice = await invoices.get_for_update(connection, invoice_id)
            if invoice is None:
                raise NotFoundError("There is no such invoice")
            if invoice.status == "paid":
                return invoice, []
            if not supersedes("paid", invoice.status):
                raise ConflictError(f"This invoice is {invoice.status}; it cannot be marked as paid")
            return await self._change(connection, invoice, "paid", actor.name)

        return await self._carry_out(work)

    async def _carry_out(self, work: Callable[[asyncpg.Connection], Awaitable[_Change]]) -> Invoice:
        invoice, events = await in_transaction(self._connect, work)
        for event in events:
            self._emit(event)
        return invoice

    async def _change(
        self, connection: asyncpg.Connection, invoice: Invoice, status: InvoiceStatus, by: str
    ) -> _Change:
        changed = await invoices.set_status(connection, invoice.id, status)
        told, events = await _follow(connection, invoice, changed, by)
        # Last before the commit: the counter rows that it locks stay locked until then.
        await self._notifier.notify_many(told, connection)
        return changed, events


async def _follow(
    connection: asyncpg.Connection, before: Invoice, invoice: Invoice, by: str
) -> tuple[list[NewNotification], list[DomainEvent]]:
    """What is to be told of an invoice that has changed; moves its project on where that waits for the payment."""
    project = await projects.get_for_update(connection, invoice.project_id)
    if project is None:
        raise NotFoundError("There is no such project")
    admin_ids = await users.list_ids_by_role(connection, "admin")
    alert = payment_alert(invoice, by)
    told = [
        payment_notification(invoice, project.user_id),
        *(notification(admin_id, "Payment status changed", alert.message, alert) for admin_id in admin_ids),
    ]
    events: list[DomainEvent] = [_event(before, invoice, project.user_id, by)]
    if invoice.status == "paid" and project.status == "pending_payment":
        change = change_status(project, "in_progress", by)
        if change is not None:
            await projects.set_status(connection, project.id, "in_progress")
            told += change.notifications(admin_ids)
            events.append(change.event)
    return told, events


def _event(before: Invoice, invoice: Invoice, owner_id: str, by: str) -> InvoiceStatusChanged:
    return InvoiceStatusChanged(
        invoice_id=invoice.id,
        project_id=invoice.project_id,
        project_name=invoice.project_name,
        owner_id=owner_id,
        amount=invoice.amount,
        old_status=before.status,
        new_status=invoice.status,
        paid_at=invoice.paid_at,
        by=by,
    )


def _the_one(found: list[Invoice]) -> Invoice:
    match found:
        case [invoice]:
            return invoice
        case []:
            raise NotFoundError("There is no invoice of this order")
        case _:
            raise ConflictError("Several invoices have this order; give each an order of its own")
