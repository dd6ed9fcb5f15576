"""Invoices: list, and payments marked by hand."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, get, patch
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter

from jasaweb_rt.api.errors import SIGNED_IN, documented
from jasaweb_rt.auth.guards import must_be_admin, must_be_signed_in
from jasaweb_rt.database.invoices import Invoice
from jasaweb_rt.database.users import User
from jasaweb_rt.messages import timestamp
from jasaweb_rt.services import Services

__all__ = ["InvoicesController"]

# PostgreSQL keeps no NUL, so no invoice has one in its id.
InvoiceId = Annotated[str, PathParameter(max_length=200, pattern=r"^[^\x00]+$")]


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


class PaymentBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The status that an invoice shall have: nothing but a payment is marked by hand."""

    status: Literal["paid"]


class InvoicesController(Controller):
    """Reads for owners and administrators, payments by hand for administrators."""

    path = "/api/invoices"
    tags = ["invoices"]  # noqa: RUF012  # Litestar's own way

    @get(guards=[must_be_signed_in], security=SIGNED_IN, responses=documented(400, 401))
    async def list_invoices(self, request: Request[User, Any, Any], services: NamedDependency[Services]) -> InvoiceList:
        """Lists the invoices of the caller's projects; for an administrator, all."""
        found = await services.invoices.list_for(request.user)
        return InvoiceList(items=[InvoiceBody.of(invoice) for invoice in found], total=len(found))

    @patch(
        "/{invoice_id:str}",
        guards=[must_be_admin],
        security=SIGNED_IN,
        responses=documented(400, 401, 403, 404, 409, 413, 415),
    )
    async def mark_paid(
        self,
        request: Request[User, Any, Any],
        invoice_id: InvoiceId,
        data: JSONBody[PaymentBody],
        services: NamedDependency[Services],
    ) -> InvoiceBody:
        """Marks an invoice as paid, with all that a reported payment does. One that is paid already stays as it is."""
        return InvoiceBody.of(await services.invoices.mark_paid(invoice_id, request.user))
