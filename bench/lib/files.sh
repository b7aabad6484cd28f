# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: files of many sizes, as source trees and stores hold them, without a process for each.

# random_files FOLDER COUNT BYTES PREFIX: COUNT files of BYTES each that cannot be compressed.
random_files() {
  mkdir -p "$1"
  head -c $(($2 * $3)) /dev/urandom | pieces "$1/$4" "$3"
}

# text_files FOLDER COUNT BYTES PREFIX: the same, but compressible.
text_files() {
  mkdir -p "$1"
  text $(($2 * $3)) "$1/$4" | pieces "$1/$4" "$3"
}

pieces() {
  split --bytes="$2" --numeric-suffixes --suffix-length=4 - "$1"
}

# text BYTES SALT: lines that compress about as well as source code; another text for each salt.
text() {
  awk -v bytes="$1" -v salt="$2" 'BEGIN {
    for (i = 1; i <= length(salt); i++) seed = (seed * 31 + index(" /-0123456789abcdefghijklmnopqrstuvwxyz", substr(salt, i, 1))) % 1000003
    srand(seed)
    words = split("if then else let in with rec inherit import return fn pub struct impl for while self " \
      "error path store build name version source value list string config default option result " \
      "match mut use crate super true false null None Some Ok Err usize u64 the of to a is not and or", word, " ")
    while (bytes > 0) {
      line = sprintf("%*s", 2 * int(rand() * 5), "")
      for (n = 3 + int(rand() * 8); n > 0; n--) {
        line = line word[1 + int(rand() * words)]
        line = line (rand() < 0.2 ? int(rand() * 10000) : substr(" _.(;", 1 + int(rand() * 5), 1))
      }
      line = substr(line "\n", 1, bytes)
      bytes -= length(line)
      printf "%s", line
    }
  }'
}
