"""Sums of rows by the scopes that they match: a scope has the values of `DIMENSIONS` in their order, and an empty one is any."""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, Text, any_, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from costwarden.ledger.bulk import on_postgresql, total_of
from costwarden.model import DIMENSIONS

Scope = tuple[str, ...]


def sums_by_scope(
    connection: Connection, scopes: Iterable[Scope], table: Table, columns: Sequence[str], *within: ColumnElement[bool]
) -> dict[Scope, list[int]]:
    """For each scope the sums of `columns` over the rows of `table` that match it and are `within`.

    There is a statement for each set of dimensions that scopes name, and not for each scope.
    """
    sums = {scope: [0] * len(columns) for scope in scopes}
    shapes: dict[tuple[int, ...], list[Scope]] = {}
    for scope in sums:
        shapes.setdefault(tuple(index for index, value in enumerate(scope) if value), []).append(scope)
    for shape, alike in shapes.items():
        keys = [table.c[DIMENSIONS[index]] for index in shape]
        query = select(*(total_of(table.c[name]) for name in columns)).where(*within)
        if len(alike) == 1:
            named = [key == alike[0][index] for key, index in zip(keys, shape, strict=True)]
            sums[alike[0]] = list(connection.execute(query.where(*named)).one())
            continue
        # One dimension is enough to leave out most of what nobody asked for, and SQLite looks a tenant up.
        query = query.where(_one_of(connection, keys[0], {scope[shape[0]] for scope in alike}))
        by_key = {tuple(scope[index] for index in shape): scope for scope in alike}
        for row in connection.execute(query.add_columns(*keys).group_by(*keys)):
            found = by_key.get(tuple(row[len(columns) :]))
            if found is not None:
                sums[found] = list(row[: len(columns)])
    return sums


def _one_of(connection: Connection, column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """That `column` is one of `values`, which may be more than a statement may have parameters."""
    if on_postgresql(connection):
        return column == any_(bindparam("wanted", list(values), ARRAY(Text)))
    return column.in_(text("SELECT value FROM json_each(:wanted)").bindparams(wanted=msgspec.json.encode(list(values)).decode()))
