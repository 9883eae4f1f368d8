#!/bin/sh
# Builds, checks and times Fireside on this machine's GPU in one go: what a machine that is lent for an hour needs.
#
#   tests/bench/gpu.sh [FOLDER]
#
# Reports go to FOLDER, to $OUT where it is set, or to gpu-report. Nothing stops the rest: what fails is told at the
# end and in summary.txt. `SIZES` names synthetic models to time besides the default one ("3b 8b"; "" for none),
# `ROWS` the engines of the comparison, `BENCH` its other options.
set -u
cd "$(dirname "$0")/../.." || exit 1
out=${1:-${OUT:-gpu-report}}
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
sizes=${SIZES-3b 8b}
rows=${ROWS:-fireside-gpu llama-vulkan}
options=${BENCH:---rounds 5 --prompt 512 --generate 128}
target=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/fireside/target}
export CARGO_TARGET_DIR="$target"
fireside=$target/debug/fireside
failed=""

# A step with its output in a log of its own.
step() {
  name=$1
  shift
  echo "$name: $*"
  if "$@" >"$out/$name.log" 2>&1; then
    echo "$name passed" >>"$out/summary.txt"
  else
    code=$?
    failed="$failed $name"
    echo "$name failed ($code)" >>"$out/summary.txt"
    tail -n 5 "$out/$name.log"
  fi
}

# As a step, with standard output in a file of its own.
report() {
  file=$1
  shift
  step "$@"
  grep -v '^note: ' "$out/$1.log" >"$out/$file"
}

: >"$out/summary.txt"
{ uname -a; nproc; cat /proc/loadavg; command -v nvidia-smi >/dev/null && nvidia-smi; } >"$out/machine.txt" 2>&1
step build cargo build --workspace --examples --bin fireside
step adapters "$fireside" adapters
cat "$out/adapters.log"

# Kernels against their twins, and the model's tokens, on this adapter.
if [ -z "${FIRESIDE_TEST_GGUF:-}" ]; then
  FIRESIDE_TEST_GGUF=$("$fireside" fetch smollm2 2>"$out/fetch.log") || echo "no model: $(tail -n 1 "$out/fetch.log")"
  export FIRESIDE_TEST_GGUF
fi
step parity cargo test --workspace --no-fail-fast --test parity --test record --test smollm2 --test counters --test synthetic \
  --test ahead --test speculation

# shellcheck disable=SC2086
step compare cargo xtask bench --out "$out/compare" --only $rows $options
report smollm2.json bench "$fireside" bench -m "$FIRESIDE_TEST_GGUF" -d gpu -s 1,4,16 -r 5 --format json
report smollm2-kernels.json kernels "$fireside" bench kernels -m "$FIRESIDE_TEST_GGUF" -d gpu --format json
# `fireside bench` waits for every token; an answer's steps run ahead of what is read.
report smollm2-answer.json answer "$fireside" generate "Once upon a time" -m "$FIRESIDE_TEST_GGUF" -d gpu -n 512 --temperature 0 --ignore-eos --format json

for size in $sizes; do
  model=$out/.random-$size.gguf
  step "synth-$size" cargo xtask synth "$model" --size "$size"
  report "$size.json" "bench-$size" "$fireside" bench -m "$model" -d gpu -s 1,8 -n 64 -r 3 --format json
  report "$size-kernels.json" "kernels-$size" "$fireside" bench kernels -m "$model" -d gpu --format json
  rm -f "$model"
done

cat "$out/summary.txt"
[ -z "$failed" ] || {
  echo "failed:$failed; the logs are in $out"
  exit 1
}
