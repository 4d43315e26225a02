# shellcheck shell=bash
# What the server scripts share: the folder for their state, who runs a server, pid files, certificates.

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# PostgreSQL refuses to run as root. When this is root, a server runs in one of two modes:
#   nobody  as the user nobody, which every system has, so that none must be made
#   userns  in a user namespace where root has another number; for folders that nobody cannot reach,
#           such as a checkout below /root
# The mode is picked when a server's folder is made, and kept there in the file .runas.
RUN_MODE=nobody

# as_user CMD…: not as root, in the mode RUN_MODE, when this is root; else as oneself.
# No PAM, no login shell, no parent left over: setpriv and unshare replace themselves by CMD.
as_user() {
  if [ "$(id -u)" != 0 ]; then "$@"
  elif [ "$RUN_MODE" = userns ]; then
    unshare --user --map-user=65534 --map-group=65534 -- "$@"
  else
    setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups --no-new-privs -- "$@"
  fi
}

# own PATH…: give files that root made to the server's user
own() {
  [ "$(id -u)" = 0 ] || return 0
  if [ "$RUN_MODE" = userns ]; then chown -R 0:0 -- "$@"
  else chown -R "nobody:$(id -gn nobody)" -- "$@"; fi
}

# pick_mode DIR [PROGRAM]: sets RUN_MODE to one in which DIR can be written and PROGRAM be run
pick_mode() {
  [ "$(id -u)" = 0 ] || { [ -w "$1" ]; return; }
  for RUN_MODE in nobody userns; do
    own "$1"
    if as_user test -w "$1" 2>/dev/null && { [ -z "${2:-}" ] || as_user test -x "$2" 2>/dev/null; }; then
      return 0
    fi
  done
  return 1
}

# mkdata DIR PROGRAM: a folder that the server can write, and a mode in which it can run PROGRAM
mkdata() {
  mkdir -p "$1" || die "cannot make $1"
  chmod 0700 "$1"
  if [ -s "$1/.runas" ]; then read -r RUN_MODE <"$1/.runas"; return 0; fi
  pick_mode "$1" "$2" || die "no user but root can reach $1 or $2; set DBS_HOME to a folder that others may enter"
  echo "$RUN_MODE" >"$1/.runas"
}

# dbs_home FOLDER: prints where programs and data are kept. $DBS_HOME if set; else FOLDER, unless this
# is root and no other user can work there (another user's private folder, and no user namespaces):
# then a folder of root's own below /var/tmp.
dbs_home() {
  local probe ok=1 other=/var/tmp/replicator-dbs
  if [ -n "${DBS_HOME:-}" ]; then printf '%s\n' "$DBS_HOME"; return; fi
  if [ "$(id -u)" = 0 ]; then
    mkdir -p "$1" && probe="$(mktemp -d "$1/.probe.XXXXXX")" || die "cannot make $1"
    chmod 0755 "$1"; chmod 0700 "$probe"
    (pick_mode "$probe") || ok=0
    rm -rf -- "$probe"
  fi
  if [ "$ok" = 1 ]; then printf '%s\n' "$1"; return; fi
  mkdir -p "$other" && chmod 0755 "$other"
  # A name in a folder of everybody: nobody else may have made it.
  [ ! -L "$other" ] && [ -O "$other" ] || die "$other belongs to somebody else; set DBS_HOME"
  printf '%s\n' "$other"
}

# abspath DIR: absolute, whether or not it exists
abspath() { realpath -m -- "$1"; }

# is_running PIDFILE WORD: prints the pid when that process lives and WORD is in its command line
is_running() {
  local pid
  [ -s "$1" ] || return 1
  read -r pid _ <"$1" 2>/dev/null || true
  [[ "$pid" =~ ^[0-9]+$ ]] || return 1
  [ -r "/proc/$pid/cmdline" ] || return 1
  ! has_ended "$pid" || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$2" || return 1
  echo "$pid"
}

# children PID: its child processes (there need not be a pgrep)
children() {
  local stat line
  for stat in /proc/[0-9]*/stat; do
    line="$(cat "$stat" 2>/dev/null)" || continue
    # pid (name) state ppid …; the name may hold anything, so cut after its last parenthesis
    read -r _ ppid _ <<<"${line##*) }"
    [ "$ppid" != "$1" ] || { stat="${stat#/proc/}"; echo "${stat%/stat}"; }
  done
}

# has_ended PID: gone, or a zombie whose last thread is gone too. A container's first process may
# take seconds to reap it, and until then kill -0 still finds it.
has_ended() {
  local state threads
  [ -d "/proc/$1" ] || return 0
  state="$(awk '/^State:/{print $2}' "/proc/$1/status" 2>/dev/null)" || return 0
  [ -n "$state" ] || return 0
  [ "$state" = Z ] || return 1
  threads=("/proc/$1/task"/*)
  [ "${#threads[@]}" -le 1 ]
}

# wait_gone PID SECONDS
wait_gone() {
  local i n=$(( $2 * 20 ))
  for ((i = 0; i < n; i++)); do
    has_ended "$1" && return 0
    sleep 0.05
  done
  return 1
}

# port_open PORT: does something listen on 127.0.0.1:PORT
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# port_free PORT: waits a few seconds for a port that a server just gave up
port_free() { local i; for ((i = 0; i < 60; i++)); do port_open "$1" || return 0; sleep 0.05; done; return 1; }

# sock_dir DIR: a folder for unix sockets, short enough for sun_path (108 bytes, unix(7))
sock_dir() {
  if [ "${#1}" -le 80 ]; then printf '%s\n' "$1"
  else printf '/tmp/dbs-%s\n' "$(printf %s "$1" | sha256sum | cut -c1-16)"; fi
}

# make_certs DIR CLIENT_CN: a CA, a server certificate for localhost, 127.0.0.1 and ::1, and a client
# certificate (ca.crt, server.crt/.key, client.crt/.key; X.509 v3 with alternative names, P-256)
make_certs() {
  local c="$1" cn="$2"
  mkdir -p "$c"
  (
    cd "$c" || exit 1
    umask 077
    ec() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
    ec ca.key && ec server.key && ec client.key || exit 1
    openssl req -x509 -new -key ca.key -days 3650 -subj "/CN=replicator test CA" -out ca.crt \
      -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null || exit 1
    printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' >server.ext
    printf 'extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\nsubjectAltName=DNS:%s\n' "$cn" >client.ext
    openssl req -new -key server.key -subj "/CN=localhost" 2>/dev/null |
      openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile server.ext -out server.crt 2>/dev/null || exit 1
    openssl req -new -key client.key -subj "/CN=$cn" 2>/dev/null |
      openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile client.ext -out client.crt 2>/dev/null || exit 1
    chmod 0644 ./*.crt
  ) || die "openssl could not make certificates in $c"
}
