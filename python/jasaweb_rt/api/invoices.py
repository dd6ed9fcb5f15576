"""Invoices: list."""

from typing import Any

import msgspec
from litestar import Controller, Request, get
from litestar.di import NamedDependency

from jasaweb_rt.api.errors import documented
from jasaweb_rt.auth.guards import must_be_signed_in
from jasaweb_rt.database.invoices import Invoice
from jasaweb_rt.database.users import User
from jasaweb_rt.messages import timestamp
from jasaweb_rt.services import Services

__all__ = ["InvoicesController"]


class InvoiceBody(msgspec.Struct, frozen=True, rename="camel"):
    """An invoice."""

    id: str
    project_id: str
    project_name: str
    amount: float
    status: str
    paid_at: str | None
    created_at: str

    @classmethod
    def of(cls, invoice: Invoice) -> "InvoiceBody":
        """As it goes out."""
        return cls(
            id=invoice.id,
            project_id=invoice.project_id,
            project_name=invoice.project_name,
            amount=float(invoice.amount),
            status=invoice.status,
            paid_at=timestamp(invoice.paid_at) if invoice.paid_at else None,
            created_at=timestamp(invoice.created_at),
        )


class InvoiceList(msgspec.Struct, frozen=True):
    """Invoices, newest first."""

    items: list[InvoiceBody]
    total: int


class InvoicesController(Controller):
    """Reads for owners and administrators."""

    path = "/api/invoices"
    tags = ["invoices"]  # noqa: RUF012  # Litestar's own way

    @get(guards=[must_be_signed_in], responses=documented(401, 503))
    async def list_invoices(self, request: Request[User, Any, Any], services: NamedDependency[Services]) -> InvoiceList:
        """Lists the invoices of the caller's projects; for an administrator, all."""
        found = await services.invoices.list_for(request.user)
        return InvoiceList(items=[InvoiceBody.of(invoice) for invoice in found], total=len(found))
