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
  row collection-first most s 2 'The first of them are gone' "after \`trampoline-cli maintenance\` was typed"
  row collection-wait most s 5 'A build that begins meanwhile waits' 'the longest, less one that runs alone (median of five)'
  row collection-log most MiB 64 "The log of Nix's database grows meanwhile to" 'at most'
  for ((n = 1; n <= runs; n++)); do
    say "collection beside builds: $n of $runs"
    collection_beside "$paths" "$n"
  done
}

# collection_beside COUNT RUN: one after another, builds begin while so many paths are collected.
collection_beside() {
  local alone=() longest=0 took builds=0 begin collecting watching
  collection_litter "$1"
  for builds in 1 2 3 4 5; do alone+=("$(collection_build "beside-$2-$builds")"); done
  # shellcheck disable=SC2016 # of the shell in the container
  collection_root bash -c '
    count() { ls -f /nix/store | wc -l; }
    rm -f /tmp/collected
    before=$(count); echo watching
    while (($(count) >= before)); do :; done
    echo "${EPOCHREALTIME/./}"
    most=0
    until [[ -e /tmp/collected ]]; do
      size=$(stat -c %s /nix/var/nix/db/db.sqlite-wal)
      if ((size > most)); then most=$size; fi
      sleep 0.1
    done
    echo "$((most >> 20))"' >"$work/first" 2>&1 &
  watching=$!
  until grep -q watching "$work/first"; do kill -0 "$watching" || fail 76 'nobody looks for the first path to go'; done
  begin=${EPOCHREALTIME/./}
  ours maintenance >"$work/beside.log" 2>&1 </dev/null &
  collecting=$!
  while kill -0 "$collecting" 2>/dev/null; do
    took=$(collection_build "beside-$2-$((++builds))")
    if ((took > longest)); then longest=$took; fi
  done
  wait "$collecting" || fail 76 "it does not collect: $(<"$work/beside.log")"
  collection_root touch /tmp/collected
  wait "$watching"
  mapfile -t alone < <(printf '%s\n' "${alone[@]}" | sort -n)
  sample collection-first ours "$(seconds $(($(sed -n 2p "$work/first") - begin)))"
  sample collection-log ours "$(sed -n 3p "$work/first")"
  sample collection-wait ours "$(seconds $((longest - alone[2])))"
}

# collection_build SALT: microseconds that a small build takes.
collection_build() {
  local begin=${EPOCHREALTIME/./}
  quietly ours_build "$1" || fail 76 'a build has failed'
  echo $((${EPOCHREALTIME/./} - begin))
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
