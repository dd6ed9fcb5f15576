"""Midtrans: whether a payment notification is theirs, and what it says of an invoice.

Signature and statuses: https://docs.midtrans.com/docs/https-notification-webhooks and
https://docs.midtrans.com/docs/transaction-status-cycle
"""

import hashlib
import hmac
from decimal import Decimal
from typing import Annotated

import msgspec

from jasaweb_rt.database.invoices import InvoiceStatus
from jasaweb_rt.domain.invoices import PaymentResult
from jasaweb_rt.exceptions import ForbiddenError, InvalidInputError

__all__ = ["PaymentNotification", "payment_result", "signature"]

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]


class PaymentNotification(msgspec.Struct, frozen=True, kw_only=True):
    """What Midtrans posts, as far as it is looked at; they send more, by means of payment."""

    order_id: Word
    status_code: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{3}$")]
    gross_amount: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,2})?$")]
    signature_key: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    transaction_status: Word
    fraud_status: Word | None = None


_STATUSES: dict[str, InvoiceStatus] = {
    "authorize": "pending",
    "pending": "pending",
    "settlement": "paid",
    "deny": "failed",
    "failure": "failed",
    "cancel": "cancelled",
    "expire": "expired",
    "refund": "refunded",
    "chargeback": "refunded",
    "partial_refund": "partial_refunded",
    "partial_chargeback": "partial_refunded",
}
# A card's money is only ours once their fraud detection has accepted the payment.
_CAPTURED: dict[str | None, InvoiceStatus] = {None: "paid", "accept": "paid", "challenge": "pending", "deny": "failed"}


def signature(order_id: str, status_code: str, gross_amount: str, server_key: str) -> str:
    """The `signature_key` of a notification: SHA-512 in lower-case hexadecimal digits."""
    return hashlib.sha512(f"{order_id}{status_code}{gross_amount}{server_key}".encode()).hexdigest()


def payment_result(notification: PaymentNotification, server_key: str) -> PaymentResult:
    """What a notification says.

    Raises:
        ForbiddenError: it was not signed with `server_key`.
        InvalidInputError: it names a status that is not known, or calls a payment done under another code than 200.
    """
    expected = signature(notification.order_id, notification.status_code, notification.gross_amount, server_key)
    if not hmac.compare_digest(expected.encode(), notification.signature_key.lower().encode()):
        raise ForbiddenError("The signature is not valid")
    status = _status(notification)
    # The signature covers the code and not the status: a signed `pending` must not pass for a payment.
    if status == "paid" and notification.status_code != "200":
        raise InvalidInputError(
            f"The status {notification.transaction_status} does not go with the code {notification.status_code}"
        )
    return PaymentResult(order_id=notification.order_id, amount=Decimal(notification.gross_amount), status=status)


def _status(notification: PaymentNotification) -> InvoiceStatus:
    if notification.transaction_status == "capture":
        status = _CAPTURED.get(notification.fraud_status)
    else:
        status = _STATUSES.get(notification.transaction_status)
    if status is None:
        raise InvalidInputError("transaction_status and fraud_status say nothing that is known here")
    return status
