# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: what each container's main process costs while nothing happens.

idle_containers=(daemon user maintenance shutdown-monitor)

measure_idle() {
  local name seconds=$((quick ? 10 : 60))
  say 'idle: making both builders, the store of ours anew: what seeding leaves in memory counts'
  if [[ -d $work/checkout ]]; then quietly ours clean --delete-store --yes || fail 76 'the builder cannot be removed'; fi
  quietly ours_setup || fail 76 'the builder cannot be made'
  idle_yardstick
  for name in "${idle_containers[@]}"; do
    row "idle-memory-$name" below MiB 4 "Private memory, idle after a first start, of the $name container's main process" \
      "$(idle_agent "$name")" "the yardstick's shell"
  done
  for name in "${idle_containers[@]}"; do
    row "idle-wakes-$name" most /s "$(idle_target "$name")" \
      "Wake-ups of it, idle, over $seconds s" "$(idle_agent "$name")" "the yardstick's shell, its children not counted"
  done
  # What follows a start or a command, e.g. the release of memory and the checkpoint of an idle store, is over then.
  sleep $((quick ? 3 : 75))
  idle_window "$seconds"
  idle_looks "$seconds"
}

# idle_looks SECONDS: what it costs to look whether an open session does something.
idle_looks() {
  local user monitor begun session
  local pause=15 # seconds, the longest between two looks: see user-init/src/activity
  row idle-looks below ms 2 "CPU of a look at an open, silent session, over $1 s" 'user-init and shutdown-monitor together'
  user=$(podman inspect --format '{{.State.Pid}}' "trampoline-$builder-user")
  monitor=$(podman inspect --format '{{.State.Pid}}' "trampoline-$builder-shutdown-monitor")
  exec {session}< <(ours shell -- sh -c "echo open; sleep $(($1 + 10))" </dev/null 2>/dev/null)
  read -r <&"$session" || fail 76 'no session can be opened'
  begun=$(on_cpu "$user" "$monitor")
  sleep "$1"
  sample idle-looks ours "$(awk -v ns=$(($(on_cpu "$user" "$monitor") - begun)) -v looks=$((($1 + pause - 1) / pause)) \
    'BEGIN { printf "%.3f", ns / looks / 1e6 }')"
  exec {session}<&-
}

# on_cpu PID...: nanoseconds of all their threads.
on_cpu() {
  local pid
  for pid in "$@"; do cat "/proc/$pid"/task/*/schedstat; done | awk '{ n += $1 } END { printf "%d", n }'
}

idle_yardstick() {
  podman volume exists "$yardstick-store" || quietly yardstick_volumes || fail 76 'the yardstick cannot be made'
  podman pod exists "$yardstick" || quietly yardstick_play 1 || fail 76 'the yardstick cannot be started'
  quietly yardstick_build idle || fail 76 'the yardstick does not build'
}

idle_agent() {
  case $1 in
    daemon) echo daemon-init ;;
    user) echo user-init ;;
    maintenance) echo maintenance-agent ;;
    *) echo "$1" ;;
  esac
}

idle_target() {
  if [[ $1 == shutdown-monitor ]]; then echo 0.2; else echo 0; fi
}

# idle_window SECONDS: all processes over the same time.
idle_window() {
  local pod name key
  local -A pid begin
  for pod in "trampoline-$builder" "$yardstick"; do
    for name in "${idle_containers[@]}"; do
      pid[$pod-$name]=$(podman inspect --format '{{.State.Pid}}' "$pod-$name")
    done
  done
  for key in "${!pid[@]}"; do begin[$key]=$(switches "${pid[$key]}"); done
  sleep "$1"
  for name in "${idle_containers[@]}"; do
    key=trampoline-$builder-$name
    idle_samples "$name" ours "${pid[$key]}" "${begin[$key]}" "$1"
    key=$yardstick-$name
    idle_samples "$name" theirs "${pid[$key]}" "${begin[$key]}" "$1"
  done
}

# idle_samples NAME SIDE PID SWITCHES-BEFORE SECONDS
idle_samples() {
  local wakes
  # A thread that has gone was on a CPU at least once to do so.
  wakes=$({ printf '%s\n' "$4"; echo; switches "$3"; } | awk -v seconds="$5" '
    NF == 0 { later = 1; next }
    !later { before[$1] = $2; next }
    { n += $2 - before[$1]; delete before[$1] }
    END { for (thread in before) n++; printf "%.3f", n / seconds }')
  sample "idle-wakes-$1" "$2" "$wakes"
  sample "idle-memory-$1" "$2" \
    "$(awk '/^Private_(Clean|Dirty):/ { kib += $2 } END { printf "%.2f", kib / 1024 }' "/proc/$3/smaps_rollup")"
}

# switches PID: for each thread how often it was put on a CPU, by its own will or not.
switches() {
  awk '/^Pid:/ { thread = $2 } /_ctxt_switches:/ { n[thread] += $2 } END { for (t in n) print t, n[t] }' \
    "/proc/$1"/task/*/status
}
