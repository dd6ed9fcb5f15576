"""Whose word a payment notification is, what it says, and what that does to an invoice."""

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from typing import get_args

import msgspec
import pytest

from jasaweb_rt.database.invoices import Invoice, InvoiceStatus
from jasaweb_rt.domain.invoices import payment_alert, payment_notification, supersedes
from jasaweb_rt.domain.midtrans import PaymentNotification, payment_result, signature
from jasaweb_rt.exceptions import ForbiddenError, InvalidInputError

KEY = "a-server-key"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def notice(status: str, fraud: str | None = None, code: str = "200", **changed: str) -> PaymentNotification:
    signed = PaymentNotification(
        order_id="order-1",
        status_code=code,
        gross_amount="1500000.50",
        signature_key=signature("order-1", code, "1500000.50", KEY),
        transaction_status=status,
        fraud_status=fraud,
    )
    return msgspec.structs.replace(signed, **changed)


def test_the_signature_is_midtrans_own() -> None:
    # printf '1111200100000.00server-key' | sha512sum
    assert signature("1111", "200", "100000.00", "server-key") == (
        "ea36bd35ec52fd9ba997a841a9c055c37e8b33ba566ac8962fbd65752acf616a"
        "2cb9d6e25d6a6618d8645b7b246fdaeedacb0b9c484e24b7388bf4cf537ff177"
    )


@pytest.mark.parametrize(
    ("status", "fraud", "code", "invoice"),
    [
        ("capture", "accept", "200", "paid"),
        ("capture", None, "200", "paid"),
        ("capture", "challenge", "201", "pending"),
        ("capture", "deny", "202", "failed"),
        ("settlement", "accept", "200", "paid"),
        ("settlement", None, "200", "paid"),
        ("pending", "accept", "201", "pending"),
        ("authorize", "accept", "200", "pending"),
        ("deny", "deny", "202", "failed"),
        ("failure", None, "202", "failed"),
        ("cancel", "accept", "200", "cancelled"),
        ("expire", None, "407", "expired"),
        ("refund", None, "200", "refunded"),
        ("chargeback", None, "200", "refunded"),
        ("partial_refund", None, "200", "partial_refunded"),
        ("partial_chargeback", None, "200", "partial_refunded"),
    ],
)
def test_every_status_is_mapped(status: str, fraud: str | None, code: str, invoice: str) -> None:
    result = payment_result(notice(status, fraud, code), KEY)
    assert (result.order_id, result.amount, result.status) == ("order-1", Decimal("1500000.50"), invoice)


@pytest.mark.parametrize(("status", "fraud"), [("settled", None), ("capture", "perhaps")])
def test_an_unknown_status_is_refused(status: str, fraud: str | None) -> None:
    with pytest.raises(InvalidInputError, match="nothing that is known"):
        payment_result(notice(status, fraud), KEY)


def test_a_signed_pending_does_not_pass_for_a_payment() -> None:
    """The signature does not cover the status."""
    with pytest.raises(InvalidInputError, match="does not go with the code 201"):
        payment_result(notice("settlement", code="201"), KEY)


@pytest.mark.parametrize(
    "changed",
    [
        {"order_id": "order-2"},
        {"status_code": "201"},
        {"gross_amount": "1.00"},
        {"signature_key": "0" * 128},
        {"signature_key": "é" * 128},
        {"signature_key": signature("order-1", "200", "1500000.50", "another-key")},
    ],
)
def test_a_wrong_signature_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(ForbiddenError):
        payment_result(notice("settlement", **changed), KEY)


def test_the_outcome_does_not_depend_on_the_order_of_arrival() -> None:
    statuses: tuple[InvoiceStatus, ...] = get_args(InvoiceStatus)
    reported: list[InvoiceStatus] = ["pending", "failed", "paid", "partial_refunded", "refunded"]
    for arrived in itertools.permutations(reported):
        present: InvoiceStatus = "unpaid"
        for status in arrived:
            present = status if supersedes(status, present) else present
        assert present == "refunded"
    assert [status for status in statuses if supersedes(status, status)] == []


@pytest.mark.parametrize(
    ("new", "present", "applies"),
    [
        ("pending", "unpaid", True),
        ("pending", "paid", False),
        ("failed", "paid", False),
        ("expired", "paid", False),
        ("paid", "failed", True),
        ("paid", "expired", True),
        ("paid", "cancelled", False),
        ("cancelled", "paid", True),
        ("refunded", "paid", True),
        ("partial_refunded", "paid", True),
        ("paid", "refunded", False),
        ("refunded", "partial_refunded", True),
    ],
)
def test_late_results_are_passed_over(new: InvoiceStatus, present: InvoiceStatus, applies: bool) -> None:
    assert supersedes(new, present) is applies


@pytest.mark.parametrize("status", get_args(InvoiceStatus))
def test_the_owner_is_told_in_the_guides_fields(status: InvoiceStatus) -> None:
    paid_at = MOMENT if status == "paid" else None
    invoice = Invoice("i", "p", "Site", Decimal("7.50"), status, "order-1", None, paid_at, MOMENT)
    told = payment_notification(invoice, "owner")
    assert (told.user_id, told.type) == ("owner", "payment_update")
    assert '"Site"' in told.message
    assert told.data == {
        "invoiceId": "i",
        "projectId": "p",
        "projectName": "Site",
        "amount": 7.5,
        "status": status,
        "paidAt": "2026-01-02T03:04:05.000Z" if paid_at else None,
    }


def test_the_administrators_are_told_in_the_guides_fields() -> None:
    invoice = Invoice("i", "p", "Site", Decimal("7.50"), "refunded", "order-1", None, None, MOMENT)
    assert msgspec.to_builtins(payment_alert(invoice, "Midtrans")) == {
        "event": "payment_status_change",
        "message": 'Invoice for "Site" changed to refunded by Midtrans',
        "projectId": "p",
        "requiresAction": False,
    }
