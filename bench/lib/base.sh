# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: what all measurements need.

# Begins the name of everything that is made outside the work folder.
prefix=trampoline-bench-
# The builder that is measured; its objects are called trampoline-bench-ours...
builder=bench-ours
yardstick=${prefix}yardstick

# quietly COMMAND...: what it says is shown only where it fails.
quietly() {
  local log=$work/command.log code=0
  "$@" >"$log" 2>&1 </dev/null || code=$?
  if ((code)); then
    say "failed with $code: $*"
    tail -n 20 "$log" >&2
  fi
  return "$code"
}

# row ID KIND UNIT TARGET WHAT OURS THEIRS: a row of the table. KIND `ratio`: the target is the largest ratio of the
# medians; `above`: the most by which the median of ours may be above that of theirs; `most`, `below`: the largest
# value of ours, included or not; `show`: no target, only of interest.
row() {
  local IFS=$'\t'
  printf '%s\n' "$*" >>"$work/rows.tsv"
}

# sample ID SIDE VALUE: SIDE is `ours` or `theirs`.
sample() {
  printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$work/samples.tsv"
  say "      $1, $2: $3"
}

# clock ID SIDE COMMAND...: its time in seconds as a sample.
clock() {
  local id=$1 side=$2 begin end
  shift 2
  begin=${EPOCHREALTIME/[.,]/}
  quietly "$@" || fail 76 "$id cannot be measured"
  end=${EPOCHREALTIME/[.,]/}
  sample "$id" "$side" "$(seconds $((end - begin)))"
}

# seconds MICROSECONDS: with three decimals.
seconds() {
  local milliseconds=$((($1 + 500) / 1000))
  printf '%d.%03d\n' $((milliseconds / 1000)) $((milliseconds % 1000))
}

# copy_samples FROM SIDE TO: what was measured once stands in two rows.
copy_samples() {
  awk -F'\t' -v OFS='\t' -v from="$1" -v side="$2" -v to="$3" '$1 == from && $2 == side { $1 = to; print }' \
    "$work/samples.tsv" >"$work/copied.tsv"
  cat "$work/copied.tsv" >>"$work/samples.tsv"
}

# cold: the next command reads from the disk, and finds no other's writes on their way to it.
cold() {
  sync
  echo 3 >/proc/sys/vm/drop_caches
}
