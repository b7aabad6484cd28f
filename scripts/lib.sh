# shellcheck shell=bash
# Sourced by demo.sh and test.sh: what a bare machine lacks, and what is built from this checkout.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/nix-trampoline
# Outside the checkout, and one for each: cargo takes what another checkout has built for its own wherever it is
# newer than the sources here, even if those are other ones.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target-$(sha256sum <<<"$repo" | cut -c1-12)}
# The four that go into the image; where they are collected.
agents=(daemon-init user-init shutdown-monitor maintenance-agent)
agents_dir=$CARGO_TARGET_DIR/agents
# Of the client; the agents build with an older one.
rust_needed=1.89
# mkfs and losetup are there for ordinary users, too; cargo is where rustup puts it.
PATH=$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin

# shellcheck source=container/podman-settings
. "$repo/container/podman-settings"

say() { printf '%s\n' "$*" >&2; }
# fail CODE MESSAGE: codes as in the project's table of exit codes.
fail() { say "$2"; exit "$1"; }

# timed WHAT COMMAND...: says how long it took.
timed() {
  local what=$1 begin=$SECONDS code=0
  shift
  say "== $what"
  "$@" || code=$?
  say "== $what: $((SECONDS - begin)) s"
  return "$code"
}

# need COMMAND:PACKAGE...: installs what is missing where that can be done without asking, else says what to type.
need() {
  local pair packages=() as_root=()
  for pair; do
    command -v "${pair%%:*}" >/dev/null || packages+=("${pair#*:}")
  done
  ((${#packages[@]})) || return 0
  command -v apt-get >/dev/null ||
    fail 71 "missing on this machine: ${packages[*]} (Debian's names); install them and try again"
  if ((EUID != 0)); then
    sudo -n true 2>/dev/null || fail 71 "missing on this machine; type: sudo apt-get install ${packages[*]}"
    as_root=(sudo -n)
  fi
  say "\$ apt-get install ${packages[*]}"
  "${as_root[@]}" apt-get update -qq >&2 || say 'apt-get update failed; trying with the lists that are here'
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "${packages[@]}" >"$cache/apt.log" 2>&1 ||
    { tail -n 20 "$cache/apt.log" >&2; fail 71 "apt-get could not install ${packages[*]}"; }
}

need_rust() {
  local version
  command -v cargo >/dev/null ||
    fail 71 "cargo is missing, and Debian's is too old: install Rust $rust_needed or newer as https://rustup.rs says"
  version=$(rustc --version | cut -d' ' -f2)
  printf '%s\n' "$rust_needed" "$version" | sort -C -V ||
    fail 71 "Rust is $version, and the client needs $rust_needed or newer: rustup update"
  # The linker, and the C library to link the agents with.
  need cc:gcc
  [[ $(cc -print-file-name=libc.a) == /* ]] || need libc.a:libc6-dev
}

# Static, because an image has no loader outside /nix.
build_agents() {
  local host names=() agent
  host=$(rustc -vV | sed -n 's/^host: //p')
  for agent in "${agents[@]}"; do names+=(-p "$agent"); done
  (cd "$repo" && RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    cargo build --release --target "$host" "${names[@]}") || return
  mkdir -p "$agents_dir"
  for agent in "${agents[@]}"; do
    # An unchanged file keeps its time, so that the client is not built again for nothing.
    cmp -s "$CARGO_TARGET_DIR/$host/release/$agent" "$agents_dir/$agent" ||
      install -m 0755 "$CARGO_TARGET_DIR/$host/release/$agent" "$agents_dir/$agent"
  done
}

# The client carries container/ and the agents, so that `image build` works from any folder.
build_client() {
  (cd "$repo" && TRAMPOLINE_AGENTS_DIR=$agents_dir cargo build --release -p trampoline-cli)
}

# What a builder needs of a machine; mmdebstrap for the base where no registry answers.
need_podman() {
  local packages=(podman:podman newuidmap:uidmap git:git ssh-keygen:openssh-client)
  # Before podman, which would bring crun; that refuses the older layout of control groups.
  command -v crun >/dev/null || packages=(runc:runc "${packages[@]}")
  if command -v apt-get >/dev/null; then packages+=(mmdebstrap:mmdebstrap); fi
  need "${packages[@]}"
}

# Makes this the checkout that the target folder belongs to, for as long as descriptor 8 is open.
take_target() {
  local owner=$CARGO_TARGET_DIR/checkout folder
  mkdir -p "$CARGO_TARGET_DIR"
  exec 8>"$CARGO_TARGET_DIR/lock"
  flock -n 8 || { say "another run builds in $CARGO_TARGET_DIR; waiting for it"; flock 8; }
  if [[ -e $owner && $(<"$owner") != "$repo" ]]; then
    # A folder that several share because somebody has said so: what they depend on stays, the rest is built again.
    find "$repo" \( -name .git -o -name target \) -prune -o -type f -exec touch -c {} +
  fi
  printf '%s\n' "$repo" >"$owner"
  # Those of checkouts that are no more; a gigabyte or more each.
  for folder in "$cache"/target-*/; do
    owner=${folder}checkout
    if [[ -e $owner && ! -d $(<"$owner") ]]; then rm -rf "$folder"; fi
  done
}

mkdir -p "$cache"
