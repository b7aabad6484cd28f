#!/usr/bin/env bash
# From a bare machine to a program that was built in a builder of its own: installs what is missing, builds
# nix-trampoline, and goes through the story, each command printed before it runs.
#
# usage: ./demo.sh [--keep]
#
#   --keep   leave the builder there, to go on with
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/scripts/lib.sh"

keep=
case ${1:-} in
  '') ;;
  --keep) keep=1 ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
  *) fail 64 "unknown argument $1 (see --help)" ;;
esac

PATH=$CARGO_TARGET_DIR/release:$PATH
cd "$repo"

# run COMMAND...: as one would type it.
run() {
  local begin=$SECONDS code=0
  printf '\n$ %s\n' "$*"
  "$@" || code=$?
  say "  ($((SECONDS - begin)) s)"
  return "$code"
}

# What an interrupted demo leaves must not be in the way of the next.
tidy() {
  local code=$?
  trap - EXIT
  if ((code)); then
    say "the demo stopped with code $code; its builder is removed"
    trampoline-cli --name demo clean --delete-store --yes >/dev/null 2>&1 || true
  fi
  exit "$code"
}

timed 'what is missing here' need_podman
need_rust
take_target
timed 'building the agents' build_agents
timed 'building trampoline-cli' build_client
# Not for the containers to hold.
exec 8>&-
timed 'podman' podman_settings "$agents_dir"
trap tidy EXIT
trampoline-cli --name demo clean --delete-store --yes >/dev/null 2>&1 || true

begin=$SECONDS
run trampoline-cli image build
run trampoline-cli --name demo setup --yes
run trampoline-cli --name demo push-tarball
run trampoline-cli --name demo build -f hello.nix
run trampoline-cli --name demo shell -- ./result/bin/hello-trampoline
if [[ -n $keep ]]; then
  printf '\nThe builder is still there. Put %s on your PATH and go on, e.g.\n' "$CARGO_TARGET_DIR/release"
  printf '  trampoline-cli --name demo shell\n  trampoline-cli --name demo clean\n'
else
  run trampoline-cli --name demo clean --delete-store --yes
fi
say "== the story: $((SECONDS - begin)) s"
