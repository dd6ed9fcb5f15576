"""The webhook of the payment provider."""

from typing import Literal

import msgspec
from litestar import Controller, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from jasaweb_rt.api.errors import documented
from jasaweb_rt.database.invoices import InvoiceStatus
from jasaweb_rt.domain.midtrans import PaymentNotification, payment_result
from jasaweb_rt.exceptions import NotConfiguredError
from jasaweb_rt.services import Services

__all__ = ["PaymentsController"]


class TakenIn(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A payment result was taken in, or was known."""

    success: Literal[True] = True
    invoice_id: str
    status: InvoiceStatus
    """Of the invoice, now."""


class PaymentsController(Controller):
    """For the payment provider: no session; each request is signed."""

    path = "/api/webhooks"
    tags = ["invoices"]  # noqa: RUF012  # Litestar's own way
    opt = {"exclude_from_auth": True, "exclude_from_csrf": True}  # noqa: RUF012  # Litestar's own way

    @post("/midtrans", status_code=200, responses=documented(400, 403, 404, 409, 413, 415))
    async def midtrans(self, data: JSONBody[PaymentNotification], services: NamedDependency[Services]) -> TakenIn:
        """Takes in a payment notification of Midtrans; it may come twice, late and out of order."""
        server_key = services.settings.midtrans_server_key
        if server_key is None:
            raise NotConfiguredError("Payments are not configured; set JASAWEB_RT_MIDTRANS_SERVER_KEY")
        invoice = await services.invoices.settle(payment_result(data, server_key), by="Midtrans")
        return TakenIn(invoice_id=invoice.id, status=invoice.status)
