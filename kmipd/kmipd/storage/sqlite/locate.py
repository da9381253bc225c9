"""Locate as SQL, with the index chosen here: statistics that nobody gathered cannot choose a slow one."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from kmipd.storage.api import LocatePage, LocateQuery
from kmipd.storage.index import index_keys

_PROBE = 64
"""Among several entries the rarest drives the search; beyond this many objects one is as common as another."""


class Search(NamedTuple):
    """A FROM and WHERE clause, its parameters, and the columns that give the order and the identifier."""

    source: str
    where: str
    parameters: list[bytes | int]
    order: str
    join_for_uid: str


def plan(query: LocateQuery, keys: list[bytes]) -> Search:
    """The search of ``query``, whose entries have the index ``keys``, driven by the first of them."""
    columns, values = _column_conditions(query)
    if keys:
        return _by_entry(query, keys, columns, values)
    index = "objects_by_date"
    if query.state is not None:
        index = "objects_by_state"
    elif query.object_type is not None:
        index = "objects_by_type"
    dates, bounds = _date_conditions("o", query)
    return Search(
        source=f"objects o INDEXED BY {index}",
        where=" AND ".join(columns + dates) or "TRUE",
        parameters=[*values, *bounds],
        order="o.initial_date DESC, o.seq DESC",
        join_for_uid="",
    )


def _by_entry(query: LocateQuery, keys: list[bytes], columns: list[str], values: list[int]) -> Search:
    dates, bounds = _date_conditions("e", query)
    others = ["EXISTS (SELECT 1 FROM entries x WHERE x.object = e.object AND x.key = ?)"] * (len(keys) - 1)
    join = " CROSS JOIN objects o ON o.seq = e.object"
    return Search(
        source="entries e" + (join if columns else ""),
        where=" AND ".join(["e.key = ?", *dates, *others, *columns]),
        parameters=[keys[0], *bounds, *keys[1:], *values],
        order="e.initial_date DESC, e.object DESC",
        join_for_uid="" if columns else join,
    )


def _column_conditions(query: LocateQuery) -> tuple[list[str], list[int]]:
    conditions: list[str] = []
    values: list[int] = []
    for condition, value in (
        ("o.state = ?", query.state),
        ("o.object_type = ?", query.object_type),
        ("o.algorithm = ?", query.algorithm),
        ("o.length = ?", query.length),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if query.usage_mask is not None:
        conditions.append("o.usage_mask & ? = ?")
        values += [query.usage_mask, query.usage_mask]
    return conditions, values


def _date_conditions(alias: str, query: LocateQuery) -> tuple[list[str], list[int]]:
    conditions: list[str] = []
    bounds: list[int] = []
    for operator, bound in ((">=", query.initial_date_from), ("<=", query.initial_date_to)):
        if bound is not None:
            conditions.append(f"{alias}.initial_date {operator} ?")
            bounds.append(bound)
    return conditions, bounds


def locate(connection: sqlite3.Connection, query: LocateQuery, offset: int, limit: int | None) -> LocatePage:
    """One page and the total. The total is counted only when the page does not tell it."""
    keys = index_keys(query.entries)
    if len(keys) > 1:
        keys.sort(key=lambda key: _occurrences(connection, key))
    search = plan(query, keys)
    parameters = search.parameters
    rows = connection.execute(
        f"SELECT o.uid FROM {search.source}{search.join_for_uid} WHERE {search.where}"  # noqa: S608 - of the constants above
        f" ORDER BY {search.order} LIMIT ? OFFSET ?",
        [*parameters, -1 if limit is None else limit, offset],
    ).fetchall()
    uids = [row[0] for row in rows]
    reached = offset + len(uids)
    last_page = limit is None or len(uids) < limit
    if last_page and (uids or not offset):
        return LocatePage(uids, reached)
    counted = connection.execute(
        f"SELECT count(*) FROM {search.source} WHERE {search.where}",  # noqa: S608 - of the constants above
        parameters,
    ).fetchall()
    return LocatePage(uids, int(counted[0][0]) if not uids else max(int(counted[0][0]), reached))


def _occurrences(connection: sqlite3.Connection, key: bytes) -> int:
    statement = "SELECT count(*) FROM (SELECT 1 FROM entries WHERE key = ? LIMIT ?)"
    return int(connection.execute(statement, (key, _PROBE)).fetchall()[0][0])
