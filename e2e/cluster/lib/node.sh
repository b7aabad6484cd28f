# shellcheck shell=bash
# Sourced by ../cluster: nodes and the processes in them.
#
# A node is a process, the anchor, that is number 1 of a process namespace and holds a mount, network, host name and
# IPC namespace; everything of the node runs in these. When the anchor dies the kernel ends every process of the node
# and, with the last of them, its mounts, network devices and packet filters. So nothing that a node does can outlive
# it, whichever way it ends, and all that is left to clear away are files, control groups and one bridge.

# What the files share is set in ../cluster, or in the one that is sourced before.
# shellcheck disable=SC2154,SC2034

bridge=trlab$number
cgroup=trampoline-lab$suffix
# 198.18.0.0/15 is set aside for tests of network equipment: it is nobody's network. This machine sees the nodes of
# clusters 0 to 63; the rest of it is within a cluster's namespaces, so that all have the same.
node_net=198.18.$((63 - number))
pod_net=198.18
service_net=198.19.0.0
host_address=$node_net.254

node_address() { echo "$node_net.$1"; }
# The pods of a node have a /24 of their own.
pod_subnet() { echo "$pod_net.$((63 + $1)).0/24"; }

# start_time STAT: of a process by its /proc/PID/stat, in clock ticks since the machine started. Together with the
# number it names one process for good.
start_time() {
  local stat
  { read -r stat <"$1"; } 2>/dev/null || return 1
  # The name, in brackets, may hold anything.
  read -ra stat <<<"${stat##*) }"
  # A dead one that nobody has asked for yet does not run.
  [[ ${stat[0]} != [ZX] ]] && echo "${stat[19]}"
}

# anchor NODE: the process number on this machine, if it runs.
anchor() {
  local pid started boot
  { read -r pid started boot <"$lab/node-$1/anchor"; } 2>/dev/null || return 1
  [[ $boot == "$(</proc/sys/kernel/random/boot_id)" && $(start_time "/proc/$pid/stat") == "$started" ]] && echo "$pid"
}

nodes() {
  local folder
  for folder in "$lab"/node-*/; do
    [[ ! -d $folder ]] || basename "${folder#"$lab"/node-}"
  done
}

# Every hierarchy of control groups, of either version.
cgroup_mounts() { awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts; }

cgroups_up() {
  local mount group file
  while read -r mount; do
    subtree_up "$mount"
    for group in "$cgroup" "$cgroup/node-$1" "$cgroup/node-$1/components"; do
      mkdir -p "$mount/$group"
      # Version 1 starts these empty, and no process may enter then.
      for file in cpuset.cpus cpuset.mems; do
        if [[ -e $mount/$group/$file && -z $(<"$mount/$group/$file") ]]; then
          cat "$(dirname "$mount/$group")/$file" >"$mount/$group/$file"
        fi
      done
      # Version 2 wants processes in the last of the three alone.
      [[ $group == */components ]] || subtree_up "$mount/$group"
    done
  done < <(cgroup_mounts)
}

# Version 2 passes on to the groups below only what it is told to.
subtree_up() {
  local controller
  [[ -e $1/cgroup.controllers ]] || return 0
  for controller in $(<"$1/cgroup.controllers"); do
    echo "+$controller" >"$1/cgroup.subtree_control" 2>/dev/null || true
  done
}

# cgroups_down: nodes have ended by now. What is still in their groups is of an `up` that was killed just when it had
# started a node, and had not yet noted its number.
cgroups_down() {
  local mount pid attempt left
  for ((attempt = 0; attempt < 100; attempt++)); do
    left=
    while read -r mount; do
      [[ -d $mount/$cgroup ]] || continue
      while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done \
        < <(find "$mount/$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null)
      find "$mount/$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || left=$mount/$cgroup
    done < <(cgroup_mounts)
    [[ -n $left ]] || return 0
    sleep 0.1
  done
  fail 70 "control group $left cannot be removed; processes in it: $(find "$left" -name cgroup.procs -exec cat {} + | tr '\n' ' ')"
}

cgroups_enter() {
  local mount
  while read -r mount; do
    echo "$BASHPID" >"$mount/$cgroup/node-$1/components/cgroup.procs"
  done < <(cgroup_mounts)
}

# in_node NODE COMMAND...: in the node's namespaces, as a child of this script.
in_node() {
  local pid
  pid=$(anchor "$1") || fail 69 "node $1 does not run"
  shift
  nsenter --target "$pid" --mount --uts --ipc --net --pid --wd=/ "$@"
}

# node_up NODE: the namespaces and the network of a node, without anything in them yet.
node_up() {
  local node=$1 folder=$lab/node-$1 pid started
  mkdir -p "$folder"/{pids,run}
  cgroups_up "$node"
  # The first child of the shell in the middle is number 1. It says its number once the mounts stand.
  read -r pid started < <(
    cgroups_enter "$node"
    setsid unshare --pid --mount --uts --ipc --net --propagation private bash -c 'bash "$@" &' _ \
      "$lab_source/lib/init" "$lab" "$folder" "node-$node" "$made" "$pause_bin/pause" 2>"$logs/init-$node.log" {lock}>&- </dev/null
  ) || fail 70 "node $node could not make its namespaces: $(cat "$logs/init-$node.log")"
  echo "$pid $started $(</proc/sys/kernel/random/boot_id)" >"$folder/anchor"
  ip link add "${bridge}n$node" master "$bridge" type veth peer name eth0 netns "$pid"
  ip link set "${bridge}n$node" up
  # shellcheck disable=SC2016 # for the inner shell
  in_node "$node" bash -euc '
    ip link set lo up
    ip addr add "$1/24" dev eth0
    ip link set eth0 up
    ip route add default via "$2"
    # Pods are routed, not bridged.
    echo 1 >/proc/sys/net/ipv4/ip_forward' _ "$(node_address "$node")" "$host_address"
}

# Routes to the pods of the other nodes.
nodes_meet() {
  local one other
  for one in $(nodes); do
    for other in $(nodes); do
      [[ $one == "$other" ]] || in_node "$one" ip route replace "$(pod_subnet "$other")" via "$(node_address "$other")"
    done
  done
}

other_bridges() {
  local other
  for other in /sys/class/net/trlab*/bridge; do
    [[ ! -e $other || $other == */$bridge/* ]] || return 0
  done
  return 1
}

bridge_owner() { cat "/sys/class/net/$bridge/ifalias" 2>/dev/null || true; }

bridge_up() {
  ip link add "$bridge" type bridge
  # Whose it is, for whoever finds it.
  ip link set "$bridge" alias "$lab"
  ip addr add "$host_address/24" dev "$bridge"
  ip link set "$bridge" up
}

# start NODE NAME COMMAND...: in the background; its output goes to the log of that name.
start() {
  local node=$1 name=$2
  shift 2
  (
    cgroups_enter "$node"
    # All of them are programs in Go, which may use memory rather than time.
    # shellcheck disable=SC2016 # for the inner shell
    in_node "$node" env PATH="$node_path" GOGC=400 bash -c '
      log=$1 file=$2
      shift 2
      setsid "$@" >>"$log" 2>&1 </dev/null &
      read -r stat <"/proc/$!/stat"
      read -ra stat <<<"${stat##*) }"
      echo "$! ${stat[19]}" >"$file"
    ' _ "$logs/$name-$node.log" "$lab/node-$node/pids/$name" "$@" {lock}>&-
  )
}

# running NODE NAME: prints the process number within the node.
running() {
  local outer pid started
  outer=$(anchor "$1") || return 1
  { read -r pid started <"$lab/node-$1/pids/$2"; } 2>/dev/null || return 1
  [[ $(start_time "/proc/$outer/root/proc/$pid/stat") == "$started" ]] && echo "$pid"
}

# answering NODE NAME SECONDS COMMAND...: returns once the command succeeds. A program that listens may still be
# starting, and tells nobody when it has started.
answering() {
  local node=$1 name=$2 seconds=$3 deadline=$((SECONDS + $3)) log=$logs/$2-$1.log
  shift 3
  until "$@" >"$logs/answer.log" 2>&1; do
    running "$node" "$name" >/dev/null || fail 70 "$name on node $node has ended:
$(tail -n 5 "$log")"
    ((SECONDS < deadline)) ||
      fail 75 "$name on node $node is not ready after $seconds s ($(tail -n 3 "$logs/answer.log")); its log: $log"
    sleep 0.1
  done
}

# signal NODE NAME SIGNAL
signal() {
  local pid
  pid=$(running "$1" "$2") || return 0
  in_node "$1" kill -s "$3" "$pid" || true
}

# stop NODE NAME [SIGNAL]: returns once it has ended.
stop() {
  local attempt
  signal "$1" "$2" "${3:-TERM}"
  for ((attempt = 0; attempt < 100; attempt++)); do
    running "$1" "$2" >/dev/null || return 0
    sleep 0.1
  done
  say "$2 on node $1 did not end within 10 s of SIG${3:-TERM}; killing it"
  signal "$1" "$2" KILL
}

# node_down NODE: with everything that runs in it.
node_down() {
  local pid attempt
  if pid=$(anchor "$1"); then
    kill -KILL "$pid" 2>/dev/null || true
    # Its end is the end of the last process in it.
    for ((attempt = 0; attempt < 300; attempt++)); do
      anchor "$1" >/dev/null || break
      sleep 0.1
    done
    if anchor "$1" >/dev/null; then fail 70 "node $1 (process $pid) does not end; a process in it hangs in the kernel"; fi
  fi
  rm -f "$lab/node-$1/anchor"
}
