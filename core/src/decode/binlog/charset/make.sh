#!/usr/bin/env bash
# Makes the tables beside this script from what a MySQL server converts, in one or two minutes.
#
#   charset/make.sh CLIENT…
#
# CLIENT… is a mysql client with its options, for example: tests/dbs/mysql.sh client DIR. MySQL 9.7 and
# MariaDB 11.8 give the same tables (compared in November 2026), but MariaDB has no gb18030.
#
# All numbers are two bytes, little endian; 0 stands for no character. An exception is an index into the
# table before it and the character that is there instead.
#
#   single.bin    for each character set of one byte, by name: the bytes from 80 to FF
#   jis.bin       ujis: two planes of 94 rows of 94; sjis is the first one in another order
#   eucjpms.bin   exceptions to jis.bin
#   cp932.bin     exceptions to jis.bin's first plane, of 120 rows of which sjis has the first 84
#   gb.bin        gb18030 in two bytes: 81 to FE, then 40 to FE
#   gbk.bin       exceptions to gb.bin
#   gb2312.bin    exceptions to gbk from A1 to F7, then A1 to FE; beside that there is nothing
#   gb18030.bin   gb18030 in four bytes below 10000: runs of consecutive characters, each by the number of
#                 its first code and its first character
#   big5.bin      A1 to F9, then 40 to FE
#   euckr.bin     81 to FD, then 41 to FE
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# ask CHARSET COUNT EXPRESSION: what EXPRESSION is for each n below COUNT, and its character
ask() {
  "${client[@]}" -N -B -e "SET cte_max_recursion_depth = 70000;
    WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < $2 - 1)
    SELECT HEX(code), HEX(CONVERT(CONVERT(code USING $1) USING utf32)) FROM (SELECT $3 AS code FROM numbers) AS codes" \
    2>/dev/null >>"$work/$1"
}

client=("$@")
for name in armscii8 cp1250 cp1251 cp1256 cp1257 cp850 cp852 cp866 dec8 geostd8 greek hebrew hp8 keybcs2 koi8r \
  koi8u latin1 latin2 latin5 latin7 macce macroman tis620; do
  ask "$name" 128 "UNHEX(HEX(n + 128))"
done
for name in big5 cp932 eucjpms euckr gb18030 gb2312 gbk sjis ujis; do
  ask "$name" 32768 "UNHEX(HEX(n + 32768))"
done
for name in eucjpms ujis; do
  ask "$name" 32768 "UNHEX(CONCAT('8F', HEX(n + 32768)))"
done
ask gb18030 39420 "UNHEX(CONCAT(HEX(0x81 + n DIV 12600), HEX(0x30 + n DIV 1260 MOD 10), HEX(0x81 + n DIV 10 MOD 126), HEX(0x30 + n MOD 10)))"

python3 - "$work" <<'PY'
import os, struct, sys

def load(name):
    found = {}
    for line in open(os.path.join(sys.argv[1], name)):
        fields = line.split()
        # Not one character, and what servers write for none. Only gb18030 has a code for the latter.
        if len(fields) == 2 and len(fields[1]) == 8:
            code, none = bytes.fromhex(fields[0]), fields[1] in ("0000003F", "0000FFFD", "00000000")
            if not none or len(code) == 4:
                found[code] = int(fields[1], 16)
    return found

def write(name, numbers):
    with open(name + ".bin", "wb") as file:
        file.write(b"".join(struct.pack("<H", number) for number in numbers))

def exceptions(name, base, wanted):
    differing = [i for i in range(len(wanted)) if base[i] != wanted[i]]
    write(name, [number for i in differing for number in (i, wanted[i])])

def grid(codes, leads, trails, front=b""):
    return [codes.get(front + bytes((lead, trail)), 0) for lead in leads for trail in trails]

all_files = {name: load(name) for name in os.listdir(sys.argv[1])}
many = ("big5", "cp932", "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "sjis", "ujis")
write("single", [codes.get(bytes((byte,)), 0) for name, codes in sorted(all_files.items()) if name not in many
                 for byte in range(128, 256)])

high = range(0xA1, 0xFF)
def euc(codes):
    return grid(codes, high, high) + grid(codes, high, high, b"\x8f")
jis = euc(all_files["ujis"])
write("jis", jis)
exceptions("eucjpms", jis, euc(all_files["eucjpms"]))
shifted_leads = list(range(0x81, 0xA0)) + list(range(0xE0, 0xFD))
shifted_trails = list(range(0x40, 0x7F)) + list(range(0x80, 0xFD))
sjis = grid(all_files["sjis"], shifted_leads, shifted_trails)
base = jis[:84 * 94] + [0] * (36 * 94)
assert sjis == base
exceptions("cp932", base, grid(all_files["cp932"], shifted_leads, shifted_trails))

leads, trails = range(0x81, 0xFF), range(0x40, 0xFF)
gb, gbk = (grid(all_files[name], leads, trails) for name in ("gb18030", "gbk"))
write("gb", gb)
exceptions("gbk", gb, gbk)
gb2312 = grid(all_files["gb2312"], leads, trails)
inside = [0xA1 <= lead <= 0xF7 and 0xA1 <= trail for lead in leads for trail in trails]
assert not any(number and not there for number, there in zip(gb2312, inside))
exceptions("gb2312", [number if there else 0 for number, there in zip(gbk, inside)], gb2312)
runs, before = [], None
for n in range(39420):
    code = bytes((0x81 + n // 12600, 0x30 + n // 1260 % 10, 0x81 + n // 10 % 126, 0x30 + n % 10))
    number = all_files["gb18030"][code]
    if before is None or number != before + 1:
        runs += [n, number]
    before = number
write("gb18030", runs)
write("big5", grid(all_files["big5"], range(0xA1, 0xFA), trails))
write("euckr", grid(all_files["euckr"], range(0x81, 0xFE), range(0x41, 0xFF)))
PY
ls -l ./*.bin
