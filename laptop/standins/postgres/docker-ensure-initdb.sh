#!/bin/bash
# What the official image's script of this name does, as far as this project relies on it: any user id, a cluster made at the
# first start with the superuser's password from a file, then /docker-entrypoint-initdb.d/*.sql run once, before any network.
# Its arguments are the server's; it does not start it.
set -euo pipefail

if ! getent passwd "$(id -u)" >/dev/null; then
  printf 'postgres:x:%s:%s::/tmp:/bin/false\n' "$(id -u)" "$(id -g)" >/tmp/passwd
  printf 'postgres:x:%s:\n' "$(id -g)" >/tmp/group
  export LD_PRELOAD=libnss_wrapper.so NSS_WRAPPER_PASSWD=/tmp/passwd NSS_WRAPPER_GROUP=/tmp/group
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  chmod 700 "$PGDATA"
  initdb -D "$PGDATA" --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth=scram-sha-256 >/dev/null
  pg_ctl -D "$PGDATA" -o "${*:2} -c listen_addresses='' -p 5432" -w start >/dev/null
  PGPASSWORD="$(cat "$POSTGRES_PASSWORD_FILE")"
  export PGPASSWORD
  for script in /docker-entrypoint-initdb.d/*.sql; do
    psql -v ON_ERROR_STOP=1 --no-psqlrc --username postgres --no-password -f "$script" >/dev/null
  done
  unset PGPASSWORD
  pg_ctl -D "$PGDATA" -m fast -w stop >/dev/null
fi
