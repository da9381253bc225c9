"""Locate as SQL for PostgreSQL, whose planner knows how common each value is and picks the index."""

from __future__ import annotations

from typing import NamedTuple

from kmipd.storage.api import LocateQuery


class Search(NamedTuple):
    """A FROM and WHERE clause over ``objects o``, its parameters, and the order."""

    source: str
    where: str
    parameters: list[object]
    order: str


def plan(query: LocateQuery, keys: list[bytes]) -> Search:
    """The search of ``query``, whose entries have the index ``keys``."""
    source = "objects o"
    dated = "o"
    order = "o.initial_date DESC, o.seq DESC"
    conditions: list[str] = []
    parameters: list[object] = []

    def bind(value: object) -> str:
        parameters.append(value)
        return f"${len(parameters)}"

    for number, key in enumerate(keys):
        conditions.append(f"e{number}.key = {bind(key)}")
        if number == 0:
            source = "entries e0 JOIN objects o ON o.seq = e0.object"
            dated, order = "e0", "e0.initial_date DESC, e0.object DESC"
        else:
            source += f" JOIN entries e{number} ON e{number}.object = e0.object"
    for column, value in (
        ("o.state", query.state),
        ("o.object_type", query.object_type),
        ("o.algorithm", query.algorithm),
        ("o.length", query.length),
    ):
        if value is not None:
            conditions.append(f"{column} = {bind(value)}")
    if query.usage_mask is not None:
        mask = bind(query.usage_mask)
        conditions.append(f"o.usage_mask & {mask} = {mask}")
    for operator, bound in ((">=", query.initial_date_from), ("<=", query.initial_date_to)):
        if bound is not None:
            conditions.append(f"{dated}.initial_date {operator} {bind(bound)}")
    return Search(source, " AND ".join(conditions) or "TRUE", parameters, order)


def page_statement(search: Search) -> str:
    """The page; its last two parameters are the limit (``None``: all) and the offset."""
    count = len(search.parameters)
    return (
        f"SELECT o.uid FROM {search.source} WHERE {search.where} ORDER BY {search.order}"  # noqa: S608 - constants
        f" LIMIT ${count + 1} OFFSET ${count + 2}"
    )


def count_statement(search: Search) -> str:
    """How many match in all."""
    return f"SELECT count(*) FROM {search.source} WHERE {search.where}"  # noqa: S608 - constants
