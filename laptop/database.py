"""A site's PostgreSQL, reached inside its container as its superuser, who is asked for a password too."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from laptop.docker import compose

# Of `docker compose`; a program of PostgreSQL's follows.
INSIDE: Final = ("exec", "-T", "--env", "PGPASSFILE=/etc/database/superuser.pgpass", "postgres")
_PSQL: Final = ("psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--username", "postgres", "--dbname", "orthanc")
_BARE: Final = ("--no-align", "--tuples-only")


def sql(home: Path, statements: str, *options: str) -> str:
    """What psql prints of `statements` in Orthanc's database, without frames and heads unless its `options` say otherwise.

    They go by standard input, because they may hold a password. Raises Trouble at the first that fails.
    """
    return compose(home, *INSIDE, *_PSQL, *_BARE, *options, stdin=statements).strip()
