#!/usr/bin/env bash
# Runs one peer once:  peer.sh (spark|hadoop|limit)-(wordcount|sort)|gnu-wordcount INPUT OUTPUT
# In the environment: W the workshop that setup.sh made, R reducers (4), T threads (2), HEAP of the JVM (6g).
set -euo pipefail
W=${W:-${TMPDIR:-/tmp}/gristmill-bench}
R=${R:-4}
T=${T:-2}
peer=$1 in=$2 out=$3
rm -rf "$out"

# Spark reaches into the JVM's own packages; without these it does not start on a recent JVM.
opens=()
for package in java.lang java.lang.invoke java.net java.nio java.util java.util.concurrent sun.nio.ch \
  sun.security.action sun.util.calendar; do
  opens+=("--add-opens=java.base/$package=ALL-UNNAMED")
done
jars=$(echo "$W"/venv/lib/python3*/site-packages/pyspark/jars)
java_() {
  exec java "-Xmx${HEAP:-6g}" "${opens[@]}" -Djava.io.tmpdir="$W/tmp" -Dlog4j2.level=ERROR \
    -Dspark.master="local[$T]" -Dspark.ui.enabled=false -Dspark.driver.host=127.0.0.1 \
    -Dspark.local.dir="$W/tmp" -cp "$W/classes:$jars/*" "$@"
}

case $peer in
  spark-wordcount) java_ SparkWordCount "$in" "$out" "$R" ;;
  spark-sort) java_ SparkSort "$in" "$out" "$R" ;;
  hadoop-wordcount) java_ HadoopWordCount "$in" "$out" "$R" "$T" ;;
  hadoop-sort) java_ HadoopSort "$in" "$out" "$R" "$T" ;;
  limit-wordcount) exec "$W/target/release/limit-wordcount" "$in" "$out" "$R" "$T" ;;
  limit-sort) exec "$W/target/release/limit-sort" "$in" "$out" "$R" "$T" ;;
  gnu-wordcount)
    mkdir -p "$out"
    LC_ALL=C tr -s ' \t\f\r' '\n' <"$in" | LC_ALL=C sort --parallel="$T" -S 2G | uniq -c >"$out/part"
    ;;
  *)
    echo "peer.sh: no such peer: $peer" >&2
    exit 2
    ;;
esac
