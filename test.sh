#!/usr/bin/env bash
# The one door to all tests.
#
# usage: ./test.sh [STAGE...]      without a stage: the first seven
#
#   lint       formatting, clippy, shellcheck
#   supply     licences, sources and known vulnerabilities of what we depend on
#   unit       what needs nothing but a compiler
#   seeding    the store volume under kills, power cuts and full disks, and collections beside what runs; as root,
#              without containers
#   cli        the client against recorded engines; the flake against stand-ins for its inputs
#   podman     scenarios that drive trampoline-cli against podman, rootful, on another machine and, where it works, rootless
#   kubernetes the same scenarios against a cluster: that of KUBECONFIG_FOR_TESTS, else minikube's where it is
#              installed, else one of the tests' own, as root (e2e/cluster)
#   soak       seeding, podman and kubernetes at full length; hours rather than minutes
#
# What is missing on a Debian machine is installed. What root's tests make is on a file system of its own, in a file below
# /var/tmp. Logs are kept in the folder that is named; of what failed, the end is shown. The last line counts: N passed,
# N failed, N skipped.
set -euo pipefail

# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/scripts/lib.sh"
# shellcheck source=scripts/test-disk.sh
. "$repo/scripts/test-disk.sh"

# A hang must end, with whatever can be said of it, long before CI's own patience does.
scenarios_seconds=${TRAMPOLINE_SCENARIOS_SECONDS:-1500}
# Scenarios at a time, which wait more than they work: in a cluster, and under podman.
threads=4 podman_threads=4
# Lines of a failed stage that are shown; the rest is in its log.
shown=150
logs=$CARGO_TARGET_DIR/test-logs
image=${TRAMPOLINE_TEST_IMAGE:-localhost/trampoline-test:current}
rootless_user=trampoline-test
# What is tried in a cluster with privilege as well; all of it at full length, since podman's pods have it.
privileged_parts='attack sandbox'
# What is tried with a podman on another machine; all of it at full length.
remote_parts='story:: stops:: ssh:: pushes:: streams::'
passed=0 failed=0 skipped=0
seven=(lint supply unit seeding cli podman kubernetes) wanted=()
# What has made clusters that must be ended, their numbers, and what brings an image of podman's to nodes: LOADER load IMAGE.
own_cluster='' own_numbers=() loader=''
# Of what runs beside the rest.
declare -A pids=() begins=()

while (($#)); do
  case $1 in
    lint | supply | unit | seeding | cli | podman | kubernetes | soak) wanted+=("$1") ;;
    -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) fail 64 "unknown stage $1 (see --help)" ;;
  esac
  shift
done
((${#wanted[@]})) || wanted=("${seven[@]}")

cd "$repo"
# Two at once would take each other's leftovers for those of a dead run.
exec 7>"$cache/test.lock"
flock -n 7 || { say 'another test run is under way on this machine; waiting for it'; flock 7; }
take_target
mkdir -p "$logs"
: >"$logs/begun"

# count LOG CODE: adds what the log's summaries say. A stage that failed without a failed test failed as a whole.
count() {
  local log=$1 code=$2 p f s
  read -r p f s < <(awk '/^test result: / {
      for (i = 1; i < NF; i++) {
        if ($(i + 1) == "passed;") p += $i
        if ($(i + 1) == "failed;") f += $i
        if ($(i + 1) == "ignored;") s += $i
      }
    } END { print p + 0, f + 0, s + 0 }' "$log")
  if ((code != 0 && f == 0)); then f=1; fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  say "   $p passed, $f failed, $s skipped"
}

# logged NAME COMMAND...: a command that runs tests, its output in a file.
logged() {
  local name=$1 begin=$SECONDS code=0
  shift
  say "-- $name: $*"
  "$@" >"$logs/$name.log" 2>&1 7>&- 8>&- </dev/null || code=$?
  told "$name" "$begin" "$code"
}

# told NAME BEGIN CODE: what has come of it.
told() {
  local name=$1 log=$logs/$1.log code=$3
  count "$log" "$code"
  say "-- $name: $((SECONDS - $2)) s, $log"
  if ((code)); then tail -n "$shown" "$log" | cut -c1-400 >&2; fi
}

# begun NAME COMMAND...: as `logged`, beside what follows, until `ended NAME`.
begun() {
  local name=$1
  shift
  say "-- $name, beside what follows: $*"
  begins[$name]=$SECONDS
  "$@" >"$logs/$name.log" 2>&1 7>&- 8>&- </dev/null &
  pids[$name]=$!
}

ended() {
  local name=$1 code=0
  wait "${pids[$name]}" || code=$?
  unset "pids[$name]"
  told "$name" "${begins[$name]}" "$code"
}

# checked NAME COMMAND...: a command that is itself one test.
checked() {
  local name=$1 log=$logs/$1.log begin=$SECONDS
  shift
  if "$@" >"$log" 2>&1 7>&- 8>&- </dev/null; then
    passed=$((passed + 1))
    say "-- $name: ok, $((SECONDS - begin)) s"
  else
    failed=$((failed + 1))
    say "-- $name: FAILED, $((SECONDS - begin)) s, $log"
    tail -n "$shown" "$log" | cut -c1-400 >&2
  fi
}

# built NAME COMMAND...: what tests need; only its failure counts.
built() {
  local before=$passed
  checked "$@"
  passed=$before
}

# skip WHY
skip() {
  skipped=$((skipped + 1))
  say "-- skipped: $1"
}

# The first use of a machine's Nix makes its store, and several at once are in each other's way.
need_nix() {
  need nix-store:nix-bin
  nix-store --version >/dev/null
}

stage_lint() {
  need shellcheck:shellcheck
  if cargo fmt --version >/dev/null 2>&1; then checked fmt cargo fmt --all --check; else skip 'cargo fmt is not installed'; fi
  if cargo clippy --version >/dev/null 2>&1; then
    checked clippy cargo clippy --workspace --all-targets -- -D warnings
  else
    skip 'cargo clippy is not installed'
  fi
  client_for_macos
  local scripts
  mapfile -t scripts < <(git ls-files | while read -r file; do
    if [[ -f $file ]] && head -n 1 "$file" | grep -qE '^#(!.*\b(ba)?sh$|!/usr/bin/env (ba)?sh| shellcheck shell=)'; then echo "$file"; fi
  done)
  checked shellcheck shellcheck -x "${scripts[@]}"
}

# Nothing is linked, so that the C of its libraries may be left out.
client_for_macos() {
  local target=aarch64-apple-darwin log=$logs/client-for-macos-target.log library
  library=$(rustc --print sysroot)/lib/rustlib/$target/lib
  [[ -d $library ]] || timeout 120 rustup target add "$target" >"$log" 2>&1 7>&- 8>&- </dev/null || true
  if [[ -d $library ]]; then
    checked client-for-macos env "CC_${target//-/_}=true" "AR_${target//-/_}=true" cargo check --target "$target" -p trampoline-cli
  else
    skip "the client for macOS: rustup brings no standard library for it ($log)"
  fi
}

# cargo-deny, built once and kept, where the machine has none; not optimised, as it runs for seconds.
need_cargo_deny() {
  PATH=$PATH:$cache/tools/bin
  command -v cargo-deny >/dev/null || built cargo-deny env -u CARGO_TARGET_DIR cargo install --locked --debug --root "$cache/tools" cargo-deny@0.20.2
  command -v cargo-deny >/dev/null
}

stage_supply() {
  need_cargo_deny || return 0
  checked deny cargo deny --locked --all-features check --hide-inclusion-graph bans licenses sources
  if timeout 60 cargo deny --locked fetch db >"$logs/advisories-fetch.log" 2>&1; then
    checked advisories cargo deny --locked check --hide-inclusion-graph advisories
  else
    skip "known vulnerabilities: RustSec's database cannot be fetched ($logs/advisories-fetch.log)"
  fi
}

# An sshd for who may become another user; Debian's is unpacked into a folder, since installed it would run and listen on port 22.
need_sshd() {
  local dir=$cache/tools/openssh new
  if ((EUID != 0)); then skip 'the real sshd under user-init needs root'; return; fi
  if [[ -x /usr/sbin/sshd ]]; then return; fi
  if [[ ! -x $dir/bin/sshd ]]; then
    need patchelf:patchelf
    mkdir -p "$cache/tools"
    new=$(mktemp -d "$cache/tools/openssh.XXXXXX")
    if (cd "$new" && unpacked_sshd) >"$logs/openssh.log" 2>&1; then mv -T "$new" "$dir"; else rm -rf "$new"; fi
  fi
  if [[ -x $dir/bin/sshd ]]; then
    export TRAMPOLINE_TEST_OPENSSH=$dir
  else
    skip "the real sshd under user-init: there is none, and Debian's does not run from a folder ($logs/openssh.log)"
  fi
}

# In a new folder: bin, lib and libexec.
unpacked_sshd() {
  local deb
  apt-get download openssh-server openssh-sftp-server libwrap0 || return
  for deb in ./*.deb; do dpkg-deb --extract "$deb" root || return; done
  # Newer ones look for their other parts in the place that they are made for.
  [[ ! -e root/usr/lib/openssh/sshd-session ]] || return
  # shellcheck disable=SC2016 # for the linker
  mkdir bin lib libexec && mv root/usr/sbin/sshd bin && mv root/usr/lib/openssh/sftp-server libexec &&
    mv root/usr/lib/*/libwrap.so.0* lib && patchelf --set-rpath '$ORIGIN/../lib' bin/sshd &&
    ! ldd bin/sshd | grep 'not found' && rm -r root ./*.deb
}

stage_unit() {
  need git:git ssh-keygen:openssh-client tar:tar setpriv:util-linux
  need_nix
  need_sshd
  logged unit cargo test --no-fail-fast --workspace --exclude trampoline-cli --exclude e2e --exclude daemon-init
  logged unit-daemon-init cargo test --no-fail-fast -p daemon-init --lib --bins --test listener --test roots
  logged layers cargo test --no-fail-fast -p e2e --lib --test layers
}

stage_seeding() {
  need_nix
  need mkfs.btrfs:btrfs-progs mkfs.ext4:e2fsprogs setpriv:util-linux
  if ((EUID != 0)); then
    skip 'seeding needs root: sudo ./test.sh seeding'
    return
  fi
  disk_up
  local place=()
  if on_test_disk; then place=(env TMPDIR="$test_disk/tmp"); fi
  # Release: it is the disk that is tested, and checking hashes in a debug build takes longer than that.
  logged seeding "${place[@]}" cargo test --no-fail-fast --release -p daemon-init --test seeding
  logged collections "${place[@]}" cargo test --no-fail-fast --release -p daemon-init --test collections
}

stage_cli() {
  need git:git ssh-keygen:openssh-client
  need_nix
  # The client carries what it would carry for a user.
  built agents build_agents
  TRAMPOLINE_AGENTS_DIR=$agents_dir logged cli cargo test --no-fail-fast -p trampoline-cli
  checked flake scripts/test-flake
  logged image-scripts scripts/test-image-scripts
}

# scenarios NAME ENGINE CLI [VARIABLE=VALUE...] [-- ARGUMENT...], by $how
scenarios() {
  local name=$1 engine=$2 cli=$3 more=() place=() how=${how:-logged}
  shift 3
  while (($#)) && [[ $1 != -- ]]; do
    more+=("$1")
    shift
  done
  if (($#)); then shift; fi
  if [[ $engine == podman-rootless ]]; then place=(with_tun env -u XDG_RUNTIME_DIR); fi
  "$how" "$name" "${place[@]}" env TRAMPOLINE_ENGINE="$engine" TRAMPOLINE_CLI="$cli" TRAMPOLINE_IMAGE="$image" \
    TRAMPOLINE_E2E_LOGS="$logs/builders" "${more[@]}" \
    timeout --kill-after=30 "$scenarios_seconds" cargo test --no-fail-fast -p e2e --test scenarios "$@"
}

stage_podman() {
  need_podman
  need setpriv:util-linux rsync:rsync patchelf:patchelf mkfs.btrfs:btrfs-progs mkfs.ext4:e2fsprogs
  built agents build_agents
  built client build_client
  disk_up
  podman_settings "$agents_dir" || { failed=$((failed + 1)); return; }
  leftovers
  built image container/build-image --agents "$agents_dir" --tag "$image" --base "${TRAMPOLINE_TEST_BASE:-auto}"
  need jq:jq
  checked sbom scripts/test-sbom "$image"
  scenarios podman podman "$CARGO_TARGET_DIR/release/trampoline-cli" -- -- --test-threads "$podman_threads"
  remote
  rootless
  leftovers
  podman rmi -f "$image" >/dev/null 2>&1 || true
}

# The same for a client to whom podman is on another machine, as it is on every Mac.
remote() {
  local folder socket part
  folder=$(mktemp -d /tmp/t-podman-XXXXXX)
  socket=unix://$folder/socket
  # One whose run was cut off ends by itself, an hour after its last client.
  podman system service --time 3600 "$socket" >"$logs/podman-service.log" 2>&1 7>&- 8>&- </dev/null &
  pids[podman-service]=$!
  # shellcheck disable=SC2016 # for the inner shell
  built podman-service timeout 30 bash -c 'until podman --url "$0" version; do :; done' "$socket"
  for part in $remote_parts; do
    scenarios "podman-remote-${part%::}" podman-remote "$CARGO_TARGET_DIR/release/trampoline-cli" TRAMPOLINE_TEST_PODMAN="$socket" \
      -- -- --test-threads "$podman_threads" "$part"
  done
  kill "${pids[podman-service]}"
  # By the signal.
  wait "${pids[podman-service]}" || true
  unset 'pids[podman-service]'
}

# with_tun COMMAND...: where an ordinary user may open /dev/net/tun, as on most machines; else only the command sees
# one that they may.
with_tun() {
  # shellcheck disable=SC2016 # for the inner shell
  unshare --mount bash -c 'if [[ $(stat -c %a /dev/net/tun) != 666 ]]; then
      mknod -m 666 "$0" c 10 200 2>/dev/null || [[ -c $0 ]]
      mount --bind "$0" /dev/net/tun
    fi
    exec "$@"' "$logs/tun" "$@"
}

as_rootless() {
  (cd / && with_tun setpriv --reuid "$rootless_user" --regid "$rootless_user" --init-groups \
    env -u XDG_RUNTIME_DIR HOME="/home/$rootless_user" XDG_DATA_HOME="/home/$rootless_user/.local/share" \
    CONTAINERS_STORAGE_CONF="/home/$rootless_user/storage.conf" \
    ${CONTAINERS_CONF:+CONTAINERS_CONF="/home/$rootless_user/containers.conf"} "$@")
}

# The same scenarios by a user of this machine who has no rights at all.
rootless() {
  local home=/home/$rootless_user why
  if ((EUID != 0)); then
    skip 'rootless beside rootful needs root to make a user for it'
    return
  fi
  no_rootless_user
  useradd --create-home --shell /usr/sbin/nologin "$rootless_user"
  chmod 0755 "$home"
  # Left to itself podman takes vfs, twenty times slower, where /dev/fuse is out of reach.
  printf '[storage]\ndriver = "overlay"\n' >"$home/storage.conf"
  if on_test_disk; then
    install -d -o "$rootless_user" -g "$rootless_user" "$test_disk/rootless"
    printf 'graphroot = "%s"\n' "$test_disk/rootless" >>"$home/storage.conf"
  fi
  if [[ -n ${CONTAINERS_CONF:-} ]]; then install -m 0644 "$CONTAINERS_CONF" "$home/containers.conf"; fi
  install -m 0755 "$CARGO_TARGET_DIR/release/trampoline-cli" "$home/trampoline-cli"
  podman save "$image" 2>/dev/null | as_rootless podman load >"$logs/rootless.log" 2>&1 || true
  # With a network of its own, as a pod has.
  if why=$(as_rootless podman run --rm "$image" /opt/trampoline/bin/daemon-init --version 2>&1); then
    scenarios podman-rootless podman-rootless "$home/trampoline-cli" CONTAINERS_STORAGE_CONF="$home/storage.conf" \
      ${CONTAINERS_CONF:+CONTAINERS_CONF="$home/containers.conf"} -- -- --test-threads "$podman_threads"
  else
    skip "no rootless podman on this machine: ${why##*$'\n'}"
  fi
  no_rootless_user
}

# With all that they have, also of a run that was cut off.
no_rootless_user() {
  local uid pid
  uid=$(id -u "$rootless_user" 2>/dev/null) || return 0
  as_rootless podman system reset --force || true
  # podman's own process that holds the user namespace.
  while read -r pid; do kill "$pid" || true; done < <(ps -u "$uid" -o pid=)
  userdel --remove "$rootless_user" || true
  rm -rf "/tmp/podman-run-$uid" "/tmp/containers-user-$uid" "$test_disk/rootless"
} >/dev/null 2>&1

stage_kubernetes() {
  need_podman
  # The last one serves a volume that cannot be mounted with other ids.
  need rsync:rsync curl:curl openssl:openssl fuse-overlayfs:fuse-overlayfs
  built agents build_agents
  built client build_client
  disk_up
  podman_settings "$agents_dir" || { failed=$((failed + 1)); return; }
  built image container/build-image --agents "$agents_dir" --tag "$image" --base "${TRAMPOLINE_TEST_BASE:-auto}"
  cluster_up || return 0
  kubectl get namespace trampoline-test >/dev/null 2>&1 || kubectl create namespace trampoline-test >/dev/null
  local cli=$CARGO_TARGET_DIR/release/trampoline-cli
  local settings=(TRAMPOLINE_TEST_NAMESPACE=trampoline-test TRAMPOLINE_TEST_KUBECONFIG="$KUBECONFIG" TRAMPOLINE_TEST_LOAD="$loader")
  if [[ -n $own_cluster ]]; then
    cluster_parts "$cli"
    # The cluster has brought Go, and the source that it is made from.
    checked seccomp-profile container/seccomp/make-profile --check
  else
    skip 'parts of a cluster are stopped only in one of the tests'"'"' own'
  fi
  scenarios kubernetes kubernetes "$cli" "${settings[@]}" -- -- --test-threads "$threads" --skip cluster::lab --skip streams::
  # The pod is without privilege, since nodes allow it; what depends on that is tried with privilege as well.
  local part
  for part in $privileged_parts; do
    scenarios "kubernetes-privileged-$part" kubernetes "$cli" "${settings[@]}" TRAMPOLINE_TEST_ISOLATION=privileged \
      -- -- --test-threads "$threads" "$part::"
  done
  # A gigabyte through each way in.
  scenarios kubernetes-streams kubernetes "$cli" "${settings[@]}" E2E_STREAM_MIB="${E2E_STREAM_MIB:-1024}" -- -- --test-threads 1 streams::
  if [[ -n ${pids[kubernetes-parts]:-} ]]; then ended kubernetes-parts; fi
  cluster_down
  podman rmi -f "$image" >/dev/null 2>&1 || true
}

# Begins what takes parts of a cluster away, so in one that nobody else uses. Its scenarios wait more than they work.
cluster_parts() {
  local number=$((TRAMPOLINE_LAB_NUMBER + 1)) config before=$failed
  own_numbers+=("$number")
  TRAMPOLINE_LAB_NUMBER=$number built cluster-of-parts "$own_cluster" up --nodes 2 --image "$image"
  ((failed == before)) || return 0
  config=$(eval "$(TRAMPOLINE_LAB_NUMBER=$number "$own_cluster" env)" && echo "$KUBECONFIG")
  kubectl --kubeconfig "$config" create namespace trampoline-test >/dev/null
  how=begun scenarios kubernetes-parts kubernetes "$1" TRAMPOLINE_LAB_NUMBER="$number" TRAMPOLINE_TEST_NAMESPACE=trampoline-test \
    KUBECONFIG="$config" TRAMPOLINE_TEST_KUBECONFIG="$config" TRAMPOLINE_TEST_LOAD="$loader" TRAMPOLINE_TEST_LAB="$own_cluster" -- -- --test-threads 1 cluster::lab
}

# Sets KUBECONFIG, and PATH such that it has a kubectl.
cluster_up() {
  local before=$failed
  if [[ -n ${KUBECONFIG_FOR_TESTS:-} ]]; then
    export KUBECONFIG=$KUBECONFIG_FOR_TESTS
    # The images must be known to its nodes: only its owner can say how they get there.
    loader=${TRAMPOLINE_TEST_LOAD:-}
    [[ -n $loader ]] || {
      skip 'KUBECONFIG_FOR_TESTS needs TRAMPOLINE_TEST_LOAD: a program that, called with "load" and the name of an image of podman, brings it to the nodes'
      return 1
    }
  elif command -v minikube >/dev/null; then
    loader=$repo/e2e/cluster/minikube-load
    minikube status >/dev/null 2>&1 || built minikube minikube start
    export KUBECONFIG=$logs/minikube.conf
    minikube kubectl -- config view --raw --minify --flatten >"$KUBECONFIG" || true
  elif ((EUID == 0)); then
    # Beside one that somebody works with.
    export TRAMPOLINE_LAB_NUMBER=${TRAMPOLINE_LAB_NUMBER:-9}
    loader=$repo/e2e/cluster/cluster
    own_cluster=$loader own_numbers=("$TRAMPOLINE_LAB_NUMBER")
    built cluster "$own_cluster" up --nodes 2
    ((failed == before)) || return 1
    eval "$("$own_cluster" env)"
  else
    skip "a cluster of the tests' own needs root: sudo ./test.sh kubernetes"
    return 1
  fi
  command -v kubectl >/dev/null || { failed=$((failed + 1)); say 'kubectl is missing'; return 1; }
  built load "$loader" load "$image"
  checked node kubectl wait --for=condition=Ready node --all --timeout=60s
  if [[ -n $own_cluster ]]; then checked cluster-check e2e/cluster/check "$image"; fi
  ((failed == before))
}

# Leaves the clusters of others as they were, but for what a failed test has left in its namespace.
cluster_down() {
  if [[ -n $own_cluster ]]; then
    local number
    for number in "${own_numbers[@]}"; do TRAMPOLINE_LAB_NUMBER=$number built cluster-down "$own_cluster" down; done
    own_cluster='' own_numbers=()
  else
    built namespace-gone kubectl delete namespace trampoline-test --timeout=120s
  fi
}

stage_soak() {
  export TRAMPOLINE_COLLECTION_ROUNDS=1000
  export TRAMPOLINE_KILL_POINTS=3000 TRAMPOLINE_IMAGE_KILL_POINTS=200 TRAMPOLINE_POWER_CUTS=200 TRAMPOLINE_COLLECTIONS=200
  export E2E_STREAM_MIB=1024 E2E_STREAM_ROUNDS=20 E2E_LATE_SECONDS=330 E2E_AWAY_SECONDS=60 E2E_CUTS=200
  E2E_HISTORIES=$(seq -s , 1 12)
  export E2E_HISTORIES
  export TRAMPOLINE_SILENT_BUILD_SECONDS=1200
  TRAMPOLINE_HISTORIES=1000000 logged histories cargo test --no-fail-fast --release -p shutdown-monitor --test histories
  scenarios_seconds=7200 privileged_parts='attack sandbox collections' remote_parts=::
  stage_seeding
  stage_podman
  stage_kubernetes
}

# gone NAME: of a test process that has ended. Names of builders and of what belongs to them are t-PID-N.
gone() {
  local pid=${1#*t-}
  pid=${pid#derive-}
  pid=${pid%%-*}
  [[ $pid =~ ^[0-9]+$ && ! -d /proc/$pid ]]
}

# What an earlier run that was cut off has left, by names that only tests give.
leftovers() {
  local name
  rm -rf /tmp/t-podman-??????
  while read -r name; do
    if gone "$name"; then podman pod rm -f "$name"; fi
  done < <(podman pod ps --format '{{.Name}}' | grep -E '^trampoline-t-[0-9]+-[0-9]+$')
  while read -r name; do
    if gone "$name"; then podman rm -f "$name"; fi
  done < <(podman ps -a --format '{{.Names}}' | grep -E '^(trampoline-t-[0-9]+-|t-derive-[0-9]+$)')
  while read -r name; do
    if gone "$name"; then podman volume rm -f "$name"; fi
  done < <(podman volume ls --format '{{.Name}}' | grep -E '^trampoline-t-[0-9]+-[0-9]+-')
} >/dev/null 2>&1 7>&- 8>&-

# Whether a private key or a token stands in what this run has logged, of its own and of builders whose scenario failed. With what follows
# a mark, which the source of tests that look for it, cited by a compiler, has not.
no_secrets_logged() {
  local files told code=0 secret='BEGIN [A-Z ]*PRIVATE KEY-----|b3BlbnNzaC1rZXktdjE[A-Za-z0-9+/]{20}|eyJhbGciOi[A-Za-z0-9_-]{20}'
  mapfile -d '' files < <(find "$logs" -type f -name '*log' -newer "$logs/begun" -print0)
  ((${#files[@]})) || return 0
  told=$(grep -lE -e "$secret" -- "${files[@]}") || code=$?
  # Nothing was found; anything above is an error of the search.
  ((code != 1)) || return 0
  printf 'a private key or a token stands in, or could not be looked for in\n%s\n' "${told:-${files[*]}}"
  return 1
}

# Everything of the stages that were not reached is not counted, so an early end must not look like a pass.
finish() {
  trap - EXIT
  local number
  if ((${#pids[@]})); then kill "${pids[@]}" && wait; fi 2>/dev/null || true
  for number in "${own_numbers[@]}"; do TRAMPOLINE_LAB_NUMBER=$number "$own_cluster" down || failed=$((failed + 1)); done
  checked no-secrets-logged no_secrets_logged
  disk_down
  if [[ -z $reached_end ]]; then
    failed=$((failed + 1))
    say 'stopped early'
  fi
  printf '%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped"
  if ((failed)); then exit 1; fi
}
reached_end=
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

need_rust
for stage in "${wanted[@]}"; do
  timed "$stage" "stage_$stage"
done
reached_end=1
