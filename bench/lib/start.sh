# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: from nothing that runs to the first finished build, the store being there already.

# Seconds between two looks of the scripts: those that people come from look once a second (`sleep 1`), and few look ten times.
looks=(1 0.1)

measure_start() {
  local n look
  say 'start: making both builders'
  quietly ours_setup || fail 76 'the builder cannot be made'
  quietly yardstick_volumes || fail 76 'the yardstick cannot be made'
  row start-setup-1 ratio s 0.6 'From no pod, but a seeded store, to the first finished build' \
    "\`trampoline-cli setup\`, then \`build\`" "volumes and \`podman kube play\` of the pod run by shell scripts, a key for SSH, then \`nix build\` in it"
  row start-setup-0.1 show s '' 'The same' "\`trampoline-cli setup\`, then \`build\`" 'the same, with scripts that look ten times a second'
  row start-up-1 ratio s 0.6 'From a stopped pod to the first finished build' \
    "\`trampoline-cli up\`, then \`build\`" "\`podman pod start\` of the same, then \`nix build\` in it"
  row start-up-0.1 show s '' 'The same' "\`trampoline-cli up\`, then \`build\`" 'the same, with scripts that look ten times a second'
  for ((n = 1; n <= runs; n++)); do
    say "start: $n of $runs"
    quietly ours clean --keep-store --yes || fail 76 'the builder cannot be removed'
    sync
    clock start-setup-1 ours ours_from_nothing "setup-$n"
    quietly ours down || fail 76 'the builder cannot be stopped'
    clock start-up-1 ours ours_from_stopped "up-$n"
    quietly ours down || fail 76 'the builder cannot be stopped'
    for look in "${looks[@]}"; do
      sync
      clock "start-setup-$look" theirs yardstick_from_nothing "$look" "setup-$look-$n"
      quietly podman pod stop --time 1 "$yardstick" || fail 76 'the yardstick cannot be stopped'
      clock "start-up-$look" theirs yardstick_from_stopped "up-$look-$n"
      quietly yardstick_remove || fail 76 'the yardstick cannot be removed'
    done
  done
  copy_samples start-setup-1 ours start-setup-0.1
  copy_samples start-up-1 ours start-up-0.1
}

ours_from_nothing() { ours setup --yes && ours_build "$1"; }
ours_from_stopped() { ours up && ours_build "$1"; }
ours_build() { ours build -f build.nix -- --argstr salt "$1"; }

yardstick_from_nothing() { yardstick_play "$1" && yardstick_key && yardstick_build "$2"; }
yardstick_from_stopped() { podman pod start "$yardstick" && yardstick_build "$1"; }
