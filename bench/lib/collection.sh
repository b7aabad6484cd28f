# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: a collection of many small paths.

measure_collection() {
  local n paths=$((quick ? 2000 : 25000))
  quietly ours_setup || fail 76 'the builder cannot be made'
  row collection ratio s 1.3 "Collect $paths dead paths" "\`trampoline-cli maintenance\`, in steps" \
    "\`nix-store --gc\` in the daemon container"
  for ((n = 1; n <= runs; n++)); do
    say "collection: $n of $runs"
    collection_litter "$paths"
    clock collection ours ours maintenance
    collection_litter "$paths"
    clock collection theirs collection_root nix-store --gc
  done
}

# collection_root COMMAND...: as root in the daemon container, by way of the daemon.
collection_root() {
  podman exec --env NIX_REMOTE=daemon "trampoline-$builder-daemon" "$@"
}

# collection_litter COUNT: paths of two small files, each but the first of ten referring to the one before.
collection_litter() {
  # shellcheck disable=SC2016 # of the shell in the container
  quietly collection_root bash -euo pipefail -c '
    export NIX_REMOTE=local
    for ((n = 0, before = 0; n < $1; n++)); do
      printf -v path "/nix/store/%032d-litter" "$n"
      paths+=("$path")
    done
    printf "%s\n" "${paths[@]}" | xargs mkdir
    for path in "${paths[@]}"; do echo "$path" >"$path/a"; echo "$path" >"$path/b"; done
    for ((n = 0; n < $1; n++)); do
      printf "%s\n%064d\n200\n\n" "${paths[n]}" 0
      if ((n % 10)); then printf "1\n%s\n" "${paths[n - 1]}"; else echo 0; fi
    done | nix-store --load-db' - "$1" || fail 76 'there is nothing to collect'
  sync
}
