# shellcheck shell=bash
# A private apt: reads any suite of the machine's distribution through this machine's own mirror without
# touching the system's apt or dpkg state, and unpacks packages into a folder.
#
#   privapt_init SUITE                make, or refresh, the private apt of a suite
#   privapt SUITE apt-cache ARGS…     run an apt tool inside it
#   privapt_root SUITE ROOT PKG…      unpack PKG… and all they depend on into ROOT
#   privapt_wrap ROOT DIR…            make the programs of ROOT/DIR run with ROOT's own libraries
#   privapt_host                      the machine's distribution and release
#
# The mirror's address comes from /etc/apt, so nothing here names a host.
#   PRIVAPT_HOME   state and downloads
#   PRIVAPT_SKIP   package names (shell patterns) left out of a root
#   PRIVAPT_ASSUME package names the solver takes for installed, and so leaves out with
#                  all that only they would pull in

# The machine's distribution, debian or ubuntu, and the name of its release.
privapt_host() { # prints "ID SUITE"
  local ID='' ID_LIKE='' VERSION_CODENAME='' UBUNTU_CODENAME=''
  # shellcheck disable=SC1091
  . /etc/os-release
  if [ -n "$UBUNTU_CODENAME" ]; then echo "ubuntu $UBUNTU_CODENAME"
  elif [[ " $ID $ID_LIKE " == *" debian "* ]]; then echo "debian ${VERSION_CODENAME:-sid}"
  else return 1; fi
}

# "URI<TAB>keyring" of the machine's main source: of component main, not the security one
_privapt_source() {
  local f etc="${PRIVAPT_ETC:-/etc/apt}"
  for f in "$etc"/sources.list.d/{debian,ubuntu}.sources "$etc"/sources.list.d/*.sources; do
    [ -f "$f" ] || continue
    awk 'BEGIN { RS = ""; FS = "\n" }
      { t = u = s = c = k = ""
        for (i = 1; i <= NF; i++) {
          v = $i; sub(/^[^:]*:[ \t]*/, "", v)
          if ($i ~ /^Types:/)      t = v
          if ($i ~ /^URIs:/)       u = v
          if ($i ~ /^Suites:/)     s = v
          if ($i ~ /^Components:/) c = v
          if ($i ~ /^Signed-By:/)  k = v }
        split(u, a, " ")
        if (t ~ /(^| )deb( |$)/ && s !~ /security/ && c ~ /(^| )main( |$)/ &&
            a[1] ~ /\/(debian|ubuntu|ubuntu-ports)\/?$/) { print a[1] "\t" k; exit } }' "$f" |
      grep . && return 0
  done
  # one-line style: deb [opts] URI suite components
  awk '$1 == "deb" { i = 2
      if ($2 ~ /^\[/) { while ($i !~ /\]$/) i++; i++ }
      if ($i ~ /\/(debian|ubuntu|ubuntu-ports)\/?$/ && $(i + 1) !~ /security/ && / main( |$)/) { print $i "\t"; exit } }' \
    "$etc"/sources.list "$etc"/sources.list.d/*.list 2>/dev/null | grep .
}

_privapt_conf() { # SUITE
  local d="$PRIVAPT_HOME/$1" new arch
  new="$d/apt.conf.new.$BASHPID"
  arch="$(dpkg --print-architecture)"
  # Check-Valid-Until is off because a mirror of sid that was frozen some days ago
  # is otherwise refused; the signature and the hashes are still checked.
  cat >"$new" <<CONF
Dir "$d";
Dir::Etc "$d/etc";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$d/etc/sources.list.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/etc/apt/trusted.gpg";
Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d";
Dir::Etc::netrc "/etc/apt/auth.conf";
Dir::Etc::netrcparts "/etc/apt/auth.conf.d";
Dir::State "$d/state";
Dir::State::status "$d/state/status";
Dir::State::extended_states "$d/state/extended_states";
Dir::Cache "$d/cache";
Dir::Cache::srcpkgcache "";
Dir::Log "$d/log";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
APT::Get::Assume-Yes "true";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Check-Valid-Until "false";
Acquire::Retries "3";
CONF
  # how this machine reaches its mirror: proxies, timeouts
  apt-config dump 2>/dev/null | grep -E '^Acquire::https?::' >>"$new" || true
  mv -f "$new" "$d/apt.conf"
}

privapt() { # SUITE TOOL ARGS…
  local s="$1"; shift
  # without its configuration the tool would act on the system's apt
  [ -s "$PRIVAPT_HOME/$s/apt.conf" ] || { echo "privapt: $s is not set up" >&2; return 1; }
  APT_CONFIG="$PRIVAPT_HOME/$s/apt.conf" "$@"
}

privapt_init() { # SUITE [MAX_AGE_MINUTES]
  local s="$1" age="${2:-1440}" d src uri key new
  d="$PRIVAPT_HOME/$s"
  mkdir -p "$d"/{etc/sources.list.d,state/lists/partial,cache/archives/partial,log,debs}
  [ -f "$d/state/status" ] || : >"$d/state/status"
  src="$(_privapt_source)" || { echo "privapt: no main source of Debian or Ubuntu found under /etc/apt" >&2; return 1; }
  uri="${src%%$'\t'*}" key="${src#*$'\t'}" new="$d/suite.new.$BASHPID"
  { printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$s"
    [ -z "$key" ] || printf 'Signed-By: %s\n' "$key"; } >"$new"
  mv -f "$new" "$d/etc/sources.list.d/suite.sources"
  _privapt_conf "$s" || return 1
  ( flock 8
    if [ ! -f "$d/updated" ] || [ -n "$(find "$d/updated" -mmin +"$age")" ]; then
      privapt "$s" apt-get -qq update && touch "$d/updated"
    fi
  ) 8>"$d/lock"
}

privapt_root() { # SUITE ROOT PKG…
  local s="$1" root="$2"; shift 2
  local d="$PRIVAPT_HOME/$s" name ver want=() pat skip deb
  privapt_init "$s" || return 1
  # with a status file that is empty but for what is assumed, apt's solver lists all that is needed
  local status="$d/state/status.$BASHPID"
  for name in ${PRIVAPT_ASSUME:-}; do
    printf 'Package: %s\nStatus: install ok installed\nArchitecture: %s\nMulti-Arch: allowed\nVersion: 99:9999\nMaintainer: none <none@localhost>\nDescription: assumed\n\n' \
      "$name" "$(dpkg --print-architecture)"
  done >"$status"
  while read -r name ver; do
    skip=
    for pat in ${PRIVAPT_SKIP:-}; do
      # shellcheck disable=SC2254
      case "$name" in $pat) skip=1;; esac
    done
    # the machine's own libc serves where it is as new
    [ "$name" != libc6 ] || ! dpkg --compare-versions "${ver%%-*}" le "$(getconf GNU_LIBC_VERSION | awk '{print $2}')" || skip=1
    [ -n "$skip" ] || want+=("$name=$ver")
  done < <(privapt "$s" apt-get -qq -s -o Dir::State::status="$status" install "$@" |
           awk '$1 == "Inst" { v = $3; sub(/^\(/, "", v); n = $2; sub(/:.*/, "", n); print n, v }')
  rm -f "$status"
  [ "${#want[@]}" -gt 0 ] || { echo "privapt: nothing to unpack for $*" >&2; return 1; }
  mkdir -p "$root"
  local tmp; tmp="$(mktemp -d "$d/debs/XXXXXX")"
  ( cd "$tmp" && privapt "$s" apt-get -qq download "${want[@]}" ) || { rm -rf "$tmp"; return 1; }
  # merged /usr, as on a Debian of today
  local l
  for l in bin sbin lib lib64; do
    mkdir -p "$root/usr/$l"
    [ -e "$root/$l" ] || [ -L "$root/$l" ] || ln -s "usr/$l" "$root/$l"
  done
  for deb in "$tmp"/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" |
      tar -x -C "$root" --keep-directory-symlink --no-same-owner -f - \
        --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/info/*' \
        --exclude='./usr/share/locale/*' --exclude='./usr/share/lintian/*' || { rm -rf "$tmp"; return 1; }
  done
  printf '%s\n' "${want[@]}" >"$root/.packages"
  rm -rf "$tmp" "$d"/cache/*.bin
}

# Each program becomes a small script that starts it through the dynamic loader of the root, or the
# machine's where that is newer, so that programs which start each other (initdb) get the right libc too.
privapt_wrap() { # ROOT DIR…
  local root="$1" dir f b up ld; shift
  ld="$(_privapt_loader "$root")"
  for dir in "$@"; do
    b="$root/$dir"
    [ -d "$b" ] || continue
    up="$(realpath -m --relative-to="$b" "$root")"
    mkdir -p "$b/.real"
    for f in "$b"/*; do
      [ -f "$f" ] && [ ! -L "$f" ] || continue
      [ "$(head -c4 "$f" | tr -d '\0')" = $'\177ELF' ] || continue
      mv "$f" "$b/.real/"
      cat >"$f" <<SH
#!/bin/sh
b="\$(dirname "\$0")"; [ "\$b" != . ] || b="\$PWD"
r="\$b/$up"
exec "$ld" --library-path "\$r/usr/lib/$(uname -m)-linux-gnu:\$r/usr/lib" --argv0 "\$0" "\$b/.real/${f##*/}" "\$@"
SH
      chmod 0755 "$f"
    done
  done
}

# The loader to start programs of ROOT with; "\$r" stands for ROOT.
_privapt_loader() { # ROOT
  local ld
  case "$(uname -m)" in
    x86_64) ld=lib64/ld-linux-x86-64.so.2;;
    aarch64) ld=lib/ld-linux-aarch64.so.1;;
    *) echo "privapt: processor $(uname -m) is not known" >&2; return 1;;
  esac
  if [ -e "$1/usr/$ld" ]; then printf '$r/usr/%s\n' "$ld"; else printf '/%s\n' "$ld"; fi
}
