"""Payment notifications as Midtrans posts them."""

from typing import Any

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
