# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: from nothing that runs to the first finished build, the store being there already.

measure_start() {
  local n
  say 'start: making both builders'
  quietly ours_setup || fail 76 'the builder cannot be made'
  quietly yardstick_volumes || fail 76 'the yardstick cannot be made'
  row start-setup ratio s 0.6 'From no pod, but a seeded store, to the first finished build' \
    "\`trampoline-cli setup\`, then \`build\`" "volumes and \`podman kube play\` of the pod run by shell scripts, a key for SSH, then \`nix build\` in it"
  row start-up ratio s 0.6 'From a stopped pod to the first finished build' \
    "\`trampoline-cli up\`, then \`build\`" "\`podman pod start\` of the same, then \`nix build\` in it"
  for ((n = 1; n <= runs; n++)); do
    say "start: $n of $runs"
    quietly ours clean --keep-store --yes || fail 76 'the builder cannot be removed'
    sync
    clock start-setup ours ours_from_nothing "setup-$n"
    quietly ours down || fail 76 'the builder cannot be stopped'
    clock start-up ours ours_from_stopped "up-$n"
    quietly ours down || fail 76 'the builder cannot be stopped'
    sync
    clock start-setup theirs yardstick_from_nothing "setup-$n"
    quietly podman pod stop --time 1 "$yardstick" || fail 76 'the yardstick cannot be stopped'
    clock start-up theirs yardstick_from_stopped "up-$n"
    quietly yardstick_remove || fail 76 'the yardstick cannot be removed'
  done
}

ours_from_nothing() { ours setup --yes && ours_build "$1"; }
ours_from_stopped() { ours up && ours_build "$1"; }
ours_build() { ours build -f build.nix -- --argstr salt "$1"; }

yardstick_from_nothing() { yardstick_play && yardstick_key && yardstick_build "$1"; }
yardstick_from_stopped() { podman pod start "$yardstick" && yardstick_build "$1"; }
