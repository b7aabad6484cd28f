# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: the programs and the image that are measured; each is made where the environment names none.

# needed: sets $cli and $image; podman works.
needed() {
  need_podman
  need_rust
  cli=${TRAMPOLINE_CLI:-$CARGO_TARGET_DIR/release/trampoline-cli}
  image=${TRAMPOLINE_IMAGE:-localhost/${prefix}image:current}
  if [[ -z ${TRAMPOLINE_CLI:-} || -z ${TRAMPOLINE_IMAGE:-} ]]; then
    say 'building what is measured'
    quietly build_agents || fail 76 'the agents cannot be built'
  fi
  podman_settings "$agents_dir" || exit
  if [[ -z ${TRAMPOLINE_IMAGE:-} ]]; then
    "$repo/container/build-image" --agents "$agents_dir" --tag "$image" >/dev/null || exit
  fi
  if [[ -z ${TRAMPOLINE_CLI:-} ]]; then
    quietly build_client || fail 76 'trampoline-cli cannot be built'
  fi
}

# build_seeder: sets $seeder, which seeds as daemon-init does, and ends; static, as the agents are.
build_seeder() {
  local host
  host=$(rustc -vV | sed -n 's/^host: //p')
  seeder=$CARGO_TARGET_DIR/$host/release/examples/seed_bench
  (cd "$repo" && RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    cargo build --release --target "$host" --package daemon-init --example seed_bench)
}

# build_delay: sets $delay, which makes a line longer; to wait, it needs no optimisation.
build_delay() {
  delay=$CARGO_TARGET_DIR/debug/examples/delay
  (cd "$repo" && cargo build --package e2e --example delay)
}
