# shellcheck shell=bash
# Sourced by ../cluster: the node's binaries, from the Go module registry into the user's cache. Each set is made
# once per version, under a lock, in a folder with a temporary name that is then renamed.

# What the files share is set in ../cluster, or in the one that is sourced before.
# shellcheck disable=SC2154,SC2034

# Kubernetes is what is tested; the rest only has to be new enough, so it is pinned.
kube_version=${KUBE_VERSION:-1.37.2}
kube_version=${kube_version#v}
containerd_version=2.4.2
runc_version=1.5.2
# The last that maps no users of a pod.
old_runc_version=1.1.15
# Fills the registry, from outside and from pods.
crane_version=0.22.1

binaries=$cache/kube
# The minor version alone will do: the newest patch that we know to build.
case $kube_version in
  1.37) kube_version=1.37.2 ;;
  1.34) kube_version=1.34.4 ;;
esac
kube_bin=$binaries/kubernetes-$kube_version
containerd_bin=$binaries/containerd-$containerd_version
runc_bin=$binaries/runc-$runc_version
old_runc_bin=$binaries/runc-$old_runc_version
crane_bin=$binaries/crane-$crane_version
pause_bin=$binaries/pause-2
registry_bin=$binaries/registry-1
pause_image=localhost/trampoline-lab/pause:2
etcd_bin=$binaries/etcd
kube_tools=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl)

# built_once FOLDER COMMAND...: runs the command with a fresh folder as its last argument unless FOLDER is there.
built_once() {
  local folder=$1 fresh begin=$SECONDS lock
  shift
  [[ ! -d $folder ]] || return 0
  mkdir -p "$binaries/logs"
  exec {lock}>"$binaries/${folder##*/}.lock"
  flock -n "$lock" || { say "another process is building ${folder##*/}; waiting for it"; flock "$lock"; }
  if [[ ! -d $folder ]]; then
    rm -rf "$folder".tmp-*
    fresh=$folder.tmp-$$
    mkdir "$fresh"
    say "building ${folder##*/}, once"
    # Not with the lock: Go leaves helpers behind that would hold it.
    if ! "$@" "$fresh" >"$binaries/logs/${folder##*/}.log" 2>&1 {lock}>&-; then
      tail -n 20 "$binaries/logs/${folder##*/}.log" >&2
      rm -rf "$fresh"
      fail 71 "${folder##*/} could not be built; all that was said is in $binaries/logs/${folder##*/}.log"
    fi
    mv -T "$fresh" "$folder"
    say "built ${folder##*/}: $((SECONDS - begin)) s"
  fi
  exec {lock}>&-
}

# The builders run where `set -e` does not reach.

# The staging modules are part of Kubernetes' own source tree, and published beside it with major version 0.
build_kubernetes() {
  local out=$1 source go_mod staged tool code=0
  cd / || return
  go_mod=$(go mod download -json "k8s.io/kubernetes@v$kube_version" | sed -n 's/^\t"GoMod": "\(.*\)",*$/\1/p')
  [[ -n $go_mod ]] || { echo "no k8s.io/kubernetes v$kube_version from $(go env GOPROXY)"; return 1; }
  source=$(mktemp -d "$binaries/src-XXXXXX") && cd "$source" || return
  {
    echo 'module lab'
    grep -E '^(go|godebug) ' "$go_mod"
    sed -n '/^godebug (/,/^)/p' "$go_mod"
    echo "require k8s.io/kubernetes v$kube_version"
    sed -n 's|^[[:space:]]*\(replace \)\{0,1\}\(k8s.io/[^ ]*\) => \./staging/.*|\2|p' "$go_mod" | while read -r staged; do
      echo "replace $staged => $staged v0.${kube_version#1.}"
    done
    for tool in "${kube_tools[@]}"; do echo "tool k8s.io/kubernetes/cmd/$tool"; done
  } >go.mod
  GOBIN=$out CGO_ENABLED=0 go install -mod=mod -trimpath \
    -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$kube_version" tool || code=$?
  rm -rf "$source"
  return "$code"
}

build_containerd() {
  local module=github.com/containerd/containerd/v2
  cd / && GOBIN=$1 CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' \
    $module/cmd/{containerd,containerd-shim-runc-v2,ctr}@v$containerd_version
}

# build_runc VERSION FOLDER
build_runc() {
  cd / && GOBIN=$2 CGO_ENABLED=1 go install -trimpath -ldflags '-s -w' -tags seccomp \
    "github.com/opencontainers/runc@v$1"
}

# The library's own program lets everybody in.
build_registry() {
  cd "$lab_source/registry" && CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-s -w' -o "$1/registry" .
}

build_crane() {
  cd / && GOBIN=$1 CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' \
    github.com/google/go-containerregistry/cmd/crane@v$crane_version
}

# One static program that waits for its end: process 1 of every node, and as an image, every pod's first container.
build_pause() {
  local out=$1 layer arch
  cd "$lab_source/pause" &&
    CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-s -w' -o "$out/pause" . &&
    arch=$(go env GOARCH) && cd "$out" &&
    tar --owner=0 --group=0 --mtime=@0 -cf layer.tar pause || return
  layer=$(sha256sum layer.tar | cut -d' ' -f1)
  printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/pause"],"User":"65535:65535"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$arch" "$layer" >config.json
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$pause_image" >manifest.json
  tar -cf pause.tar manifest.json config.json layer.tar && rm manifest.json config.json layer.tar
}

# The store of the cluster's objects; not as an installed package of Debian's, which would start a service.
fetch_etcd() {
  cd "$1" || return
  command -v apt-get >/dev/null || { echo 'etcd is missing; install it (any version from 3.4 on)'; return 1; }
  apt-get download etcd-server || { apt-get update -qq && apt-get download etcd-server; } || return
  dpkg-deb --extract etcd-server_*.deb . && mv usr/bin/etcd . && rm -rf usr etc lib var ./*.deb
}

need_go() {
  command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null ||
    fail 71 "Go is missing, and Debian's is too old for Kubernetes: install it as https://go.dev/doc/install says"
}

need_binaries() {
  local folder
  # Where the cache is warm, nothing is needed of the machine.
  for folder in "$kube_bin" "$containerd_bin" "$runc_bin" "$old_runc_bin" "$crane_bin" "$registry_bin" "$pause_bin"; do
    [[ -d $folder ]] || { need_go; break; }
  done
  built_once "$pause_bin" build_pause
  built_once "$kube_bin" build_kubernetes
  built_once "$containerd_bin" build_containerd
  if [[ ! -d $runc_bin || ! -d $old_runc_bin ]]; then
    need cc:gcc pkg-config:pkg-config
    [[ -e /usr/include/seccomp.h ]] || need seccomp.h:libseccomp-dev
  fi
  built_once "$runc_bin" build_runc "$runc_version"
  built_once "$old_runc_bin" build_runc "$old_runc_version"
  built_once "$crane_bin" build_crane
  built_once "$registry_bin" build_registry
  command -v etcd >/dev/null || built_once "$etcd_bin" fetch_etcd
  need iptables:iptables nsenter:util-linux ip:iproute2 openssl:openssl curl:curl
  [[ -n $(cni_plugins) ]] || need ptp:containernetworking-plugins
}

# Where distributions put the network's plugins.
cni_plugins() {
  local folder
  for folder in /usr/lib/cni /usr/libexec/cni /opt/cni/bin; do
    if [[ -x $folder/ptp ]]; then
      echo "$folder"
      return
    fi
  done
}
