# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: a builder in a cluster of its own (e2e/cluster) against kubectl, on the same node.

export TRAMPOLINE_LAB_NUMBER=${TRAMPOLINE_LAB_NUMBER:-8}
cluster=$here/../e2e/cluster/cluster
cluster_is_up=
far_line=
# Of what goes through exec and port-forward.
stream_bytes=$((quick ? 64 << 20 : 1 << 30))
# The port of a pod's that takes so many bytes and counts them, and of one that gives as many.
sink_port=9001 source_port=9002
rounds_most=3
# How far away the API server is while they are counted, in milliseconds each way.
far_delay=100

measure_kubernetes() {
  local n
  say 'kubernetes: making a cluster and a builder in it'
  kube_up
  push_repository
  push_sources
  kube_copies
  kube_rows
  for ((n = 1; n <= runs; n++)); do
    say "kubernetes: $n of $runs"
    kube_start
    kube_status
    kube_push kube-push mixed "$n"
    kube_push kube-push-sources sources "$n"
    kube_streams
    kube_setup
  done
  copy_samples kube-forward-there theirs kube-exec-there
  copy_samples kube-forward-back theirs kube-exec-back
  rm -rf "$work/mixed" "$work/sources" "$work/copies"
  kube_down
}

# The same files without .git, for kubectl, which leaves nothing out. Once: ext4 without a journal looks at each inode that was deleted
# in the last minute before it makes a new one, so nothing is deleted between two measurements.
kube_copies() {
  local name
  for name in mixed sources; do
    mkdir -p "$work/copies/$name"
    tar -C "$work/$name" --exclude=./.git -c . | tar -C "$work/copies/$name" -x
  done
}

kube_rows() {
  local size=$((stream_bytes >> 20)) forwarded="raw TCP through \`kubectl port-forward\`"
  row kube-start above s 1 'From a stopped builder to ready' "\`trampoline-cli up\`" \
    "a bare pod of the pause image on the same node, from \`kubectl create\` to Ready"
  row kube-status ratio s 1 'Ask how it is' "\`trampoline-cli status\`" "\`kubectl get pod\`"
  row kube-push ratio s 0.5 "Send a checkout ($push_size)" \
    "\`trampoline-cli push-tarball\`: hashed, checked, made current at once" "\`kubectl cp\` of the files, without .git"
  row kube-push-sources ratio s 0.5 "Send a checkout of source code alone ($sources_size)" \
    "\`trampoline-cli push-tarball\`" "\`kubectl cp\` of the files, without .git"
  row kube-exec-there ratio s 1.25 "$size MiB into the pod" "\`trampoline-cli shell -- wc -c\`: through exec" "$forwarded"
  row kube-exec-back ratio s 1.25 "$size MiB out of it" "\`trampoline-cli shell -- head -c\`: through exec" "$forwarded"
  row kube-forward-there ratio s 1.25 "$size MiB into the pod" \
    "\`trampoline-cli ssh -- wc -c\`: through port-forward, encrypted once more" "$forwarded"
  row kube-forward-back ratio s 1.25 "$size MiB out of it" \
    "\`trampoline-cli ssh -- head -c\`: through port-forward, encrypted once more" "$forwarded"
  row kube-rounds most '' "$rounds_most" "Round trips of \`setup\` of an unchanged builder, $((2 * far_delay)) ms away, by the audit log" \
    "requests that wait for another's answer or for a connection" ''
}

kube_up() {
  quietly "$cluster" up --image "$image" || fail 76 'the cluster cannot be made'
  cluster_is_up=1
  eval "$("$cluster" env)"
  ours_checkout
  cat >"$work/kubernetes.toml" <<END
[builder]
image = "$image"
engine = "kubernetes"
[daemon]
substituters = []
[shutdown]
idle-timeout = "never"
END
  quietly kube_ours setup --yes || fail 76 'the builder cannot be made'
  kube_peer >"$work/peer.yaml"
  quietly kubectl apply -f "$work/peer.yaml" || fail 76 'the pod beside it cannot be made'
  quietly kubectl wait --for=condition=Ready pod/peer --timeout=60s || fail 76 'the pod beside it does not start'
  far_up
}

kube_down() {
  far_down
  [[ -n $cluster_is_up ]] || return 0
  cluster_is_up=
  quietly "$cluster" down
}

# kube_ours ARGUMENT...: as `ours`, in the cluster.
kube_ours() { kube_ours_in "$work/checkout" "$@"; }

kube_ours_in() {
  (cd "$1" && env HOME="$work/home" XDG_STATE_HOME="$work/home/state" XDG_CONFIG_HOME="$work/home/config" \
    "$cli" --name "$builder" --config "$work/kubernetes.toml" "${@:2}")
}

# What kubectl has to do with: a pod of the same image, that counts and gives bytes.
kube_peer() {
  cat <<END
apiVersion: v1
kind: Pod
metadata: {name: peer}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: sink
      image: $image
      command: [/bin/busybox, nc, -ll, -p, "$sink_port", -e, /bin/busybox, sh, -c, "/bin/busybox head -c $stream_bytes | /bin/busybox wc -c"]
    - name: source
      image: $image
      command: [/bin/busybox, nc, -ll, -p, "$source_port", -e, /bin/busybox, sh, -c, "yes 0123456789 | /bin/busybox head -c $stream_bytes"]
    - name: files
      image: $image
      command: [/bin/busybox, sleep, "86400"]
      env: [{name: PATH, value: "/nix/var/nix/profiles/default/bin:/bin"}]
END
}

kube_start() {
  local pause
  pause=$(awk -F'"' '/sandbox = / { print $2 }' "$("$cluster" kubeconfig | xargs dirname)/node-1/containerd.toml")
  quietly kube_ours down || fail 76 'the builder cannot be stopped'
  clock kube-start ours kube_ours up
  clock kube-start theirs kube_pause "$pause"
  quietly kubectl delete pod pause --grace-period=1 || fail 76 'the bare pod does not end'
}

# kube_pause IMAGE
kube_pause() {
  kubectl create -f - <<<"{apiVersion: v1, kind: Pod, metadata: {name: pause}, spec: {terminationGracePeriodSeconds: 1,
    containers: [{name: pause, image: \"$1\", imagePullPolicy: Never}]}}" &&
    kubectl wait --for=condition=Ready pod/pause --timeout=60s
}

kube_status() {
  clock kube-status ours kube_ours status
  clock kube-status theirs kubectl get pod "trampoline-$builder-0"
}

# kube_push ID REPOSITORY N: into another project each time, so that nothing of it is there.
kube_push() {
  sync
  clock "$1" ours kube_ours_in "$work/$2" push-tarball --project "$2-$3"
  sync
  clock "$1" theirs kubectl cp "$work/copies/$2" peer:"/tmp/$2-$3" --container files
}

kube_streams() {
  local forward port
  clock kube-exec-there ours kube_into shell
  clock kube-exec-back ours kube_out_of shell
  clock kube-forward-there ours kube_into ssh
  clock kube-forward-back ours kube_out_of ssh
  mkfifo "$work/forward"
  kubectl port-forward pod/peer ":$sink_port" ":$source_port" >"$work/forward" &
  forward=$!
  exec {said}<"$work/forward"
  port=$(kube_port "$sink_port")
  clock kube-forward-there theirs kube_raw_into "$port"
  port=$(kube_port "$source_port")
  clock kube-forward-back theirs kube_raw_out_of "$port"
  kill "$forward"
  wait "$forward" || true
  exec {said}<&-
  rm "$work/forward"
}

# kube_port PORT: the local one, as kubectl says it: `Forwarding from 127.0.0.1:40123 -> 9001`, in the order asked for.
kube_port() {
  local line
  while read -r -t 20 line <&"$said"; do
    [[ $line != *127.0.0.1:*"-> $1" ]] || break
  done
  line=${line#*127.0.0.1:}
  echo "${line%% *}"
}

# kube_into WAY
kube_into() {
  [[ $(head -c "$stream_bytes" /dev/zero | kube_ours "$1" -- wc -c) == "$stream_bytes" ]]
}

# kube_out_of WAY
kube_out_of() {
  [[ $(kube_ours "$1" -- head -c "$stream_bytes" /dev/zero | wc -c) == "$stream_bytes" ]]
}

# kube_raw_into PORT
kube_raw_into() {
  local counted
  exec {raw}<>"/dev/tcp/127.0.0.1/$1"
  head -c "$stream_bytes" /dev/zero >&"$raw"
  read -r -t 120 counted <&"$raw"
  exec {raw}>&-
  [[ $counted == "$stream_bytes" ]]
}

# kube_raw_out_of PORT
kube_raw_out_of() {
  [[ $(head -c "$stream_bytes" <"/dev/tcp/127.0.0.1/$1" | wc -c) == "$stream_bytes" ]]
}

# far_up: a kubeconfig in $work/far.conf by which the same API server is a long line away.
far_up() {
  local server cluster_name
  quietly build_delay || fail 76 'the long line cannot be built'
  server=$(kubectl config view --minify -o 'jsonpath={.clusters[0].cluster.server}')
  cluster_name=$(kubectl config view --minify -o 'jsonpath={.clusters[0].name}')
  mkfifo "$work/far"
  "$delay" "${server#https://}" "$far_delay" >"$work/far" &
  far_line=$!
  kubectl config view --minify --raw --flatten >"$work/far.conf"
  quietly kubectl --kubeconfig "$work/far.conf" config set-cluster "$cluster_name" \
    --server="https://127.0.0.1:$(head -n 1 "$work/far")" --tls-server-name="$(cut -d: -f1 <<<"${server#https://}")" ||
    fail 76 'no kubeconfig can be made'
  rm "$work/far"
}

far_down() {
  [[ -n $far_line ]] || return 0
  kill "$far_line"
  wait "$far_line" || true
  far_line=
}

kube_setup() {
  local log before
  log=$("$cluster" logs)/audit.log
  before=$(wc -l <"$log")
  KUBECONFIG=$work/far.conf quietly kube_ours setup --yes || fail 76 'the builder cannot be set up'
  sample kube-rounds ours "$(tail -n "+$((before + 1))" "$log" | kube_rounds)"
}

# kube_rounds: of the client's requests in an audit log, how many came more than half a way there and back after the one before:
# what is sent at once, on connections that are there, comes at once.
kube_rounds() {
  grep '"userAgent":"trampoline-cli/' | grep '"stage":"ResponseComplete"' |
    sed 's/.*"requestReceivedTimestamp":"[^T]*T\([0-9]*\):\([0-9]*\):\([0-9.]*\)Z".*/\1 \2 \3/' |
    awk '{ printf "%.6f\n", ($1 * 60 + $2) * 60 + $3 }' | sort -n |
    awk -v gap="$far_delay" '{ if ($1 - last > gap / 1000) rounds++; last = $1 } END { print rounds + 0 }'
}
