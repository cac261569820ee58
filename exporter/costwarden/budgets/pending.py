"""What the operations of a group have changed in memory and the ledger does not have yet."""

from typing import Any

import msgspec

from costwarden.budgets.holdings import Reservation
from costwarden.ledger import Connection
from costwarden.ledger.budgets import add_reservations, delete_reservations, write_crossed, write_reservations
from costwarden.ledger.usage import append_usage
from costwarden.model import Usage


class Pending:
    """Rows to be written before the commit."""

    def __init__(self) -> None:
        self.reservations: dict[str, Reservation] = {}
        """New ones, and those that have less set aside or have expired."""
        self.crossed: list[tuple[Any, ...]] = []
        self.recorded: dict[tuple[str, str], int] = {}
        """By (source, event id): nano-dollars of the usage that waits here."""
        self.looked_up: dict[tuple[str, str], int | None] = {}
        """By (source, event id): what the ledger was found to have; None is nothing."""
        self._ended: list[str] = []
        self._usage: list[tuple[Any, ...]] = []

    def __bool__(self) -> bool:
        return bool(self.reservations or self._ended or self._usage)

    def record(self, usage: Usage) -> None:
        """Append an event."""
        self._usage.append(msgspec.structs.astuple(usage))
        self.recorded[usage.source, usage.event_id] = usage.cost

    def end(self, reservation: Reservation) -> None:
        """Remove a reservation."""
        self.reservations.pop(reservation.reservation_id, None)
        if reservation.stored:
            self._ended.append(reservation.reservation_id)

    def write(self, connection: Connection) -> None:
        """Write it all, reservations in the order of their ids."""
        if self._ended:
            delete_reservations(connection, sorted(self._ended))
        if self.reservations:
            held = [self.reservations[key] for key in sorted(self.reservations)]
            add_reservations(connection, [reservation.row() for reservation in held if not reservation.stored])
            write_reservations(connection, [reservation.row() for reservation in held if reservation.stored])
            for reservation in held:
                reservation.stored = True
        if self._usage:
            append_usage(connection, self._usage)
        if self.crossed:
            write_crossed(connection, sorted(self.crossed))
