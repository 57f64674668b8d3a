#!/usr/bin/env bash
# Makes the workshop for bench/compare in $W: Spark and Hadoop's local runner (both from the pyspark package's
# jars), the programs without a framework, and the inputs. What is there already is kept.
#   setup.sh small|full|5g     small: a few MB, for a smoke run; full: 3.3 GB; 5g: full and 5 GB of records
# Needs python3 with venv, a JDK, cargo; for `full` apt-get as root, unless the kernel's source is installed.
set -euo pipefail
size=${1:-full}
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
W=${W:-${TMPDIR:-/tmp}/gristmill-bench}
plays=$repo/bench/data/plays.txt
mkdir -p "$W/data" "$W/classes" "$W/tmp"
cd "$W"

# A file that is half made must not pass for a whole one: it gets its name when it is done.
make_once() {
  local name=$1
  shift
  [ -f "data/$name" ] && return
  echo "making data/$name" >&2
  "$@" >"data/$name.part"
  mv "data/$name.part" "data/$name"
}
repeat() { for ((i = 0; i < $2; i++)); do cat "$1"; done; }
records() { "$W/target/release/gen-records" /dev/stdout "$1" "$2"; }
kernel_source() {
  if ! compgen -G '/usr/src/linux-source-*.tar.xz' >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq linux-source; } >&2
  fi
  local archives=(/usr/src/linux-source-*.tar.xz)
  tar xf "${archives[0]}" --to-stdout
}
own_source() { for _ in 1 2 3 4 5 6 7 8; do find "$repo/crates" "$repo/docs" -type f -exec cat {} +; done; }

CARGO_TARGET_DIR=$W/target cargo build -q --release --locked --manifest-path "$here/limit/Cargo.toml"

jars=$(echo "$W"/venv/lib/python3*/site-packages/pyspark/jars)
if [ ! -d "$jars" ]; then
  python3 -m venv venv
  venv/bin/pip install -q 'pyspark==4.3.0'
  jars=$(echo "$W"/venv/lib/python3*/site-packages/pyspark/jars)
fi
for source in "$here"/java/*.java; do
  class=classes/$(basename "$source" .java).class
  [ "$class" -nt "$source" ] || javac -cp "$jars/*" -d classes "$source"
done

case $size in
  small)
    make_once small-linux.txt own_source
    make_once small-plays-1g.txt repeat "$plays" 4
    make_once small-records-1g records 100000 42
    make_once small-records-5g records 500000 43
    ;;
  full | 5g)
    make_once linux.txt kernel_source
    make_once plays-1g.txt repeat "$plays" 897
    make_once records-1g records 10000000 42
    [ "$size" = full ] || make_once records-5g records 50000000 43
    ;;
  *)
    echo "setup.sh: no such size: $size (small, full or 5g)" >&2
    exit 2
    ;;
esac
make_once 1k.txt head -c 1024 "$plays"
