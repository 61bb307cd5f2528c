#!/bin/sh
# Installs what the tests drive and a bare machine lacks: a Chromium, and a PostgreSQL server for the run store.
# Elsewhere than on a Debian-like machine with root, say what is missing; the tests that need it then fail with the reason.
set -eu
need=""
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || [ -n "${CHROMIUM:-}" ] || need="$need chromium"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 || need="$need postgresql"
[ -z "$need" ] && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  apt-get update -q >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $need fonts-noto-color-emoji >/dev/null
else
  echo "Please install:$need (set CHROMIUM to the path of a Chromium or Chrome if it has another name)" >&2
fi
