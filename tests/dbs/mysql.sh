#!/usr/bin/env bash
# Real MySQL and MariaDB servers for tests, on loopback.
#
#   mysql.sh install KIND                unpack it; the system's packages stay as they are
#   mysql.sh home                        the folder that programs and data are kept in
#   mysql.sh start   KIND DIR PORT [opts] [-- options of the server…]
#   mysql.sh stop    DIR                 orderly
#   mysql.sh crash   DIR                 SIGKILL, as in a power cut of the process
#   mysql.sh destroy DIR                 stop and delete
#   mysql.sh client  DIR [options…]      the client program, as root
#
# KIND is mysql (9.7, from Debian sid), mariadb (10.11, from Debian bookworm), mariadb105 (10.5, from bullseye) or
# mariadb118 (11.8, from trixie).
# Options of start, for the first start of a DIR:
#   --password P     root's password (default: secret)
#   --require-tls    refuse connections without TLS
#   --certs          certificates in DIR/tls, with names for localhost and 127.0.0.1. Those that mysqld
#                    makes itself have none, so a client can check who signed them but no name.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/lib/common.sh"
. "$here/lib/privapt.sh"
DBS_HOME="$(dbs_home "$(dirname "$(dirname "$here")")/target/dbs")"
export PRIVAPT_HOME="$DBS_HOME/privapt"
# MySQL's own libssl would read the machine's settings.
export OPENSSL_CONF=/dev/null

# kind KIND: sets suite, packages, root and the names of the programs
kind() {
  case "$1" in
    mysql)
      suite=sid packages='mysql-server-core mysql-client-core' assume=
      skip='perl* libperl* libgdbm* libdb5* openssl-provider-legacy gcc-*-base libsasl2-modules* libtirpc-common'
      server=mysqld client=mysql;;
    mariadb|mariadb105|mariadb118)
      suite=bookworm packages='mariadb-server-core mariadb-client-core'
      case "$1" in
        mariadb105) suite=bullseye packages='mariadb-server-core-10.5 mariadb-client-core-10.5';;
        mariadb118) suite=trixie;;
      esac
      assume='perl systemd adduser passwd debconf mysql-common mariadb-common psmisc procps iproute2 lsof rsync socat galera-4 gawk libdbi-perl libmariadb3-compat'
      skip='gcc-*-base' server=mariadbd client=mariadb;;
    *) die "no server of kind $1";;
  esac
  root="$DBS_HOME/$1-$suite"
}

cmd_install() {
  local suite packages assume skip server client root
  kind "$1"
  if [ ! -f "$root/.ready" ]; then
    mkdir -p "$DBS_HOME"
    ( flock 9
      [ ! -f "$root/.ready" ] || exit 0
      rm -rf "$root.new"
      # shellcheck disable=SC2086
      PRIVAPT_ASSUME="$assume" PRIVAPT_SKIP="$skip" privapt_root "$suite" "$root.new" $packages || die "no $1 here"
      rm -f "$root.new"/usr/bin/{ibd2sdi,innochecksum,myisam*,mysqlslap,mysqld_multi,mysqld_safe}
      privapt_wrap "$root.new" usr/sbin usr/bin
      touch "$root.new/.ready"; chmod -R a+rX "$root.new"
      rm -rf "$root"; mv "$root.new" "$root"
    ) 9>"$DBS_HOME/.$1.lock"
  fi
  "$root/usr/sbin/$server" --no-defaults --version | sed 's|^[^ ]*/||'
}

# load DIR: the kind of a folder's server, and its options
load() {
  d="$(abspath "$1")"
  [ -f "$d/options" ] || die "$d was not made by this script"
  # shellcheck disable=SC1091
  . "$d/options"
  [ ! -s "$d/.runas" ] || read -r RUN_MODE <"$d/.runas"
  kind "$O_KIND"
}

write_conf() {
  local sd; sd="$(sock_dir "$d")"
  cat >"$d/my.cnf" <<CNF
[$server]
basedir=$root/usr
lc_messages_dir=$root/usr/share/mysql
character_sets_dir=$root/usr/share/mysql/charsets
plugin_dir=$root/usr/lib/mysql/plugin
datadir=$d/data
tmpdir=$d/tmp
secure_file_priv=$d/tmp
socket=$sd/mysql.sock
pid_file=$d/server.pid
log_error=$d/server.log
bind_address=127.0.0.1
port=$O_PORT
skip_name_resolve=ON
server_id=$O_PORT
log_bin=$d/data/binlog
sync_binlog=0
innodb_flush_log_at_trx_commit=2
innodb_buffer_pool_size=64M
max_connections=300
require_secure_transport=$O_REQUIRE_TLS
CNF
  if [ "$O_KIND" = mysql ]; then printf 'mysqlx=OFF\ninnodb_redo_log_capacity=32M\ninnodb_numa_interleave=OFF\n'
  else printf 'innodb_log_file_size=32M\nbinlog_format=ROW\n'; fi >>"$d/my.cnf"
  [ ! -d "$d/tls" ] || printf 'ssl_ca=%s\nssl_cert=%s\nssl_key=%s\n' "$d/tls/ca.crt" "$d/tls/server.crt" "$d/tls/server.key" >>"$d/my.cnf"
}

# make_data: an empty database, and the statements that give root its password
make_data() {
  mkdir -p -m 0700 "$d/tmp" "$d/data"
  [ "$certs" = 0 ] || make_certs "$d/tls" root
  own "$d"
  if [ "$O_KIND" = mysql ]; then
    ( cd / && as_user "$root/usr/sbin/mysqld" --no-defaults --initialize-insecure --basedir="$root/usr" \
      --datadir="$d/data" --lc-messages-dir="$root/usr/share/mysql" --plugin-dir="$root/usr/lib/mysql/plugin" \
      --innodb-redo-log-capacity=32M --innodb-buffer-pool-size=64M --skip-log-bin --log-error="$d/server.log" ) ||
      { cat "$d/server.log" >&2; die "mysqld --initialize failed"; }
  else
    ( cd "$d" && as_user env -u MYSQL_HOME HOME="$d" "$root/usr/bin/mariadb-install-db" --no-defaults --tmpdir="$d" \
      --basedir="$root/usr" --datadir="$d/data" --auth-root-authentication-method=normal --skip-test-db \
      --innodb-log-file-size=32M ) >"$d/server.log" 2>&1 || { cat "$d/server.log" >&2; die "mariadb-install-db failed"; }
  fi
  local q="${O_PASSWORD//\\/\\\\}"; q="${q//\'/\'\'}"
  cat >"$d/init.sql" <<SQL
SET SESSION sql_log_bin=0;
ALTER USER 'root'@'localhost' IDENTIFIED BY '$q';
DROP USER IF EXISTS 'root'@'127.0.0.1', 'root'@'::1';
CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY '$q';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION;
SQL
  own "$d/init.sql"
}

cmd_start() {
  local suite packages assume skip server client root d pid sd i certs=0 extra=()
  local O_KIND="$1" O_PORT="$3" O_PASSWORD=secret O_REQUIRE_TLS=OFF
  d="$(abspath "$2")"; shift 3
  # shellcheck disable=SC1091
  [ ! -f "$d/options" ] || . "$d/options"
  while [ $# -gt 0 ]; do
    case "$1" in
      --password) O_PASSWORD="$2"; shift 2;;
      --require-tls) O_REQUIRE_TLS=ON; shift;;
      --certs) certs=1; shift;;
      --) shift; break;;
      *) die "unknown option $1";;
    esac
  done
  kind "$O_KIND"
  [ -f "$root/.ready" ] || cmd_install "$O_KIND" >/dev/null
  if pid="$(is_running "$d/server.pid" "$d/my.cnf")"; then die "already running as pid $pid"; fi
  port_free "$O_PORT" || die "port $O_PORT is taken"
  mkdata "$d" "$root/usr/sbin/$server"
  declare -p O_KIND O_PASSWORD O_REQUIRE_TLS O_PORT | sed 's/^declare -- //' >"$d/options"
  if [ ! -d "$d/data" ]; then make_data; extra+=(--init-file="$d/init.sql"); fi
  sd="$(sock_dir "$d")"; [ "$sd" = "$d" ] || { mkdir -p "$sd"; own "$sd"; }
  write_conf
  own "$d/my.cnf"
  # A killed server may stay a zombie for some seconds, and the next one would take it for alive.
  rm -f "$d/server.pid" "$sd/mysql.sock" "$sd/mysql.sock.lock"
  ( cd / && as_user env -u MYSQL_HOME setsid -f "$root/usr/sbin/$server" --defaults-file="$d/my.cnf" \
    "${extra[@]}" "$@" </dev/null >>"$d/server.out" 2>&1 )
  for ((i = 0; i < 1200; i++)); do
    # The client's answer, not the open port: the port opens before the init file has run.
    if [ -s "$d/server.pid" ] && cmd_client "$d" -N -e 'SELECT 1' >/dev/null 2>&1; then
      rm -f "$d/init.sql"
      is_running "$d/server.pid" "$d/my.cnf" >/dev/null || die "the server wrote no usable pid file"
      return 0
    fi
    sleep 0.05
  done
  tail -n 30 "$d/server.log" "$d/server.out" >&2 2>/dev/null || true
  die "the server did not come up"
}

cmd_client() {
  local suite packages assume skip server client root d; load "$1"; shift
  MYSQL_PWD="$O_PASSWORD" "$root/usr/bin/$client" --no-defaults \
    --character-sets-dir="$root/usr/share/mysql/charsets" -uroot --protocol=SOCKET -S "$(sock_dir "$d")/mysql.sock" "$@"
}

cmd_stop() {
  local d pid; d="$(abspath "$1")"
  pid="$(is_running "$d/server.pid" "$d/my.cnf")" || return 0
  kill -TERM "$pid"; wait_gone "$pid" 60 || die "pid $pid did not stop"
}

cmd_crash() {
  local d pid; d="$(abspath "$1")"
  pid="$(is_running "$d/server.pid" "$d/my.cnf")" || return 0
  kill -KILL "$pid"; wait_gone "$pid" 20
}

cmd_destroy() {
  local d sd; d="$(abspath "$1")"
  [ -e "$d" ] || return 0
  cmd_crash "$d"
  sd="$(sock_dir "$d")"; [ "$sd" = "$d" ] || rm -rf -- "$sd"
  rm -rf -- "$d"
}

cmd_home() { printf '%s\n' "$DBS_HOME"; }

c="${1:-}"; [ $# -eq 0 ] || shift
case "$c" in
  install | start | stop | crash | destroy | client | home) "cmd_$c" "$@";;
  *) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2;;
esac
