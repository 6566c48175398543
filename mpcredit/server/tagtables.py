"""Tables of the server that are looked into by tag: brought to the newest tag key when one comes into force (R4).

Each row names the version that its tag is under. A table is raised in one transaction, so that a crash leaves it under the
version before, and rows that are there already stay as they are: it may be done again at any time.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import LargeBinary, Table, bindparam, select, update

from mpcredit.encoding import hex_bytes, to_hex
from mpcredit.server.database import Database
from mpcredit.tags import Tagger

__all__ = ["raise_tags"]

BATCH: Final = 5_000


def raise_tags(database: Database, table: Table, tagger: Tagger) -> int:
    """Raise the tags of a table with the columns `tag` (bytes, or hexadecimal) and `tag_key_version`.

    Returns:
        How many different tags were raised.

    Raises:
        StoreError: the database failed; nothing was changed.
    """
    c, newest = table.c, tagger.version
    binary = isinstance(c.tag.type, LargeBinary)
    older = select(c.tag, c.tag_key_version).where(c.tag_key_version < newest).distinct().limit(BATCH)
    with database.read() as connection:
        if connection.execute(older.limit(1)).first() is None:
            return 0
    change = (
        update(table)
        .where(c.tag == bindparam("before"), c.tag_key_version == bindparam("under"))
        .values(tag=bindparam("after"), tag_key_version=newest)
    )
    count = 0
    with database.transaction() as connection:
        while rows := connection.execute(older).all():
            found = []
            for tag, version in rows:
                raised = tagger.raised(bytes(tag) if binary else hex_bytes(tag, 32), int(version))
                found.append({"before": tag, "under": version, "after": raised if binary else to_hex(raised)})
            connection.execute(change, found)
            count += len(found)
    return count
