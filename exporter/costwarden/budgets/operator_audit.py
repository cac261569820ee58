"""What an operator's word has changed, for the audit log."""

from costwarden.budgets.calls import Reset, Resolve
from costwarden.budgets.holdings import Period, Reservation
from costwarden.ledger import Connection
from costwarden.ledger.audit import append_audit


def audit_resolution(connection: Connection, word: Resolve, reservation: Reservation) -> None:
    """`reservation` is ended by `word`; called while it still holds what it held."""
    append_audit(
        connection,
        at=word.at,
        actor=word.actor,
        action="resolve_reservation",
        subject=word.reservation_id,
        before={"estimate": reservation.estimate, "settled": reservation.settled, "unsettled": reservation.unsettled},
        after={"cost": word.cost, "reason": word.reason},
    )


def audit_reset(connection: Connection, wish: Reset, period: Period) -> None:
    """`period` begins anew; called while it still has its figures."""
    append_audit(
        connection,
        at=wish.at,
        actor=wish.actor,
        action="reset_budget",
        subject=wish.budget,
        before={
            "spent": period.spent,
            "input_tokens": period.input_tokens,
            "output_tokens": period.output_tokens,
            "requests": period.requests,
        },
        after={"spent": 0, "reason": wish.reason},
    )
