#!/usr/bin/env bash
# Runs a command once per PostgreSQL major version, with PG_MAJOR set.
#
#   each-major.sh COMMAND…
#
# $MAJORS names the versions, and each of them must be had. Without it, every version that can be had
# here is taken, and the end says which were not and why.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
[ $# -gt 0 ] || { sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }

needed="${MAJORS:-}"
declare -A why_not=()
offered=()
while IFS=$'\t' read -r major from note; do
  offered+=("$major")
  [ "$from" != - ] || why_not[$major]="$note"
done < <("$here/postgres.sh" majors)

passed=() failed=() skipped=()
for major in ${needed:-"${offered[@]}"}; do
  if [ -z "${why_not[$major]:-}" ]; then
    error="$("$here/postgres.sh" install "$major" 2>&1 >/dev/null)" ||
      why_not[$major]="$(tail -n 1 <<<"$error")"
  fi
  if [ -n "${why_not[$major]:-}" ]; then
    skipped+=("$major: ${why_not[$major]}")
    continue
  fi
  echo "== PostgreSQL $major"
  if PG_MAJOR="$major" "$@"; then passed+=("$major"); else failed+=("$major"); fi
done

echo "live tests: passed on PostgreSQL ${passed[*]:-none}${failed[*]:+; FAILED on ${failed[*]}}"
for line in "${skipped[@]}"; do echo "not tested: PostgreSQL $line"; done
[ "${#failed[@]}" = 0 ] && [ "${#passed[@]}" -gt 0 ] || exit 1
if [ -n "$needed" ] && [ "${#skipped[@]}" -gt 0 ]; then
  echo "every version of MAJORS=\"$needed\" is needed"
  exit 1
fi
