# shellcheck shell=bash
# Sourced by ../cluster: Kubernetes' own programs, their keys and their settings. The control plane is on node 1.

# What the files share is set in ../cluster, or in the one that is sourced before.
# shellcheck disable=SC2154,SC2034

api=https://$(node_address 1):6443

certificates() {
  mkdir -p "$lab/pki"
  (
    cd "$lab/pki" &&
      key ca && openssl req -x509 -new -key ca.key -out ca.crt -subj /CN=trampoline-lab -days 3650 &&
      key sa && openssl ec -in sa.key -pubout -out sa.pub &&
      certificate apiserver /CN=kube-apiserver \
        "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:${service_net%.*}.1,IP:$(node_address 1)" &&
      certificate admin /O=system:masters/CN=admin DNS:admin
  ) >"$logs/certificates.log" 2>&1 || fail 70 "no certificates; openssl says: $(cat "$logs/certificates.log")"
}

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

# certificate NAME SUBJECT NAMES
certificate() {
  key "$1" && openssl req -new -key "$1.key" -out "$1.csr" -subj "$2" &&
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 3650 \
      -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3")
}

# kubeconfig NAME FILE: with all that it needs inside, so that it can be carried elsewhere.
kubeconfig() {
  (
    umask 077
    cat >"$2" <<YAML
apiVersion: v1
kind: Config
current-context: trampoline-lab
contexts:
  - name: trampoline-lab
    context: {cluster: trampoline-lab, user: $1}
clusters:
  - name: trampoline-lab
    cluster:
      server: $api
      certificate-authority-data: $(base64 -w0 "$lab/pki/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 "$lab/pki/$1.crt")
      client-key-data: $(base64 -w0 "$lab/pki/$1.key")
YAML
  )
}

etcd_up() {
  # The objects may be lost with the machine, so nothing waits for a disk.
  start 1 etcd etcd --data-dir "$lab/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380
}

apiserver_start() {
  cat >"$lab/audit.yaml" <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
YAML
  start 1 kube-apiserver kube-apiserver --etcd-servers=http://127.0.0.1:2379 \
    --bind-address="$(node_address 1)" --advertise-address="$(node_address 1)" --secure-port=6443 \
    --tls-cert-file="$lab/pki/apiserver.crt" --tls-private-key-file="$lab/pki/apiserver.key" \
    --client-ca-file="$lab/pki/ca.crt" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --service-account-key-file="$lab/pki/sa.pub" --service-account-signing-key-file="$lab/pki/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc --service-cluster-ip-range="$service_net/16" \
    --kubelet-client-certificate="$lab/pki/admin.crt" --kubelet-client-key="$lab/pki/admin.key" \
    --kubelet-certificate-authority="$lab/pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --audit-policy-file="$lab/audit.yaml" --audit-log-path="$logs/audit.log" \
    --allow-privileged=true "${features[@]}"
}

apiserver_ready() {
  answering 1 kube-apiserver 60 curl -sS --fail-with-body --max-time 5 --cacert "$lab/pki/ca.crt" \
    --cert "$lab/pki/admin.crt" --key "$lab/pki/admin.key" "$api/readyz"
}

controllers_up() {
  # A node that says nothing is given up soon: tests wait for that.
  start 1 kube-controller-manager kube-controller-manager --kubeconfig="$lab/admin.conf" --leader-elect=false \
    --bind-address=127.0.0.1 --service-account-private-key-file="$lab/pki/sa.key" --root-ca-file="$lab/pki/ca.crt" \
    --use-service-account-credentials=true --enable-hostpath-provisioner=true \
    --flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins \
    --node-monitor-period=2s --node-monitor-grace-period=20s "${features[@]}"
  # It ends itself when a pod that was made again while the API server was away is on another node than it remembers; elsewhere a
  # kubelet starts it again.
  # shellcheck disable=SC2016 # for the inner shell
  start 1 kube-scheduler bash -c 'while :; do "$@"; sleep 1; done' _ \
    kube-scheduler --kubeconfig="$lab/admin.conf" --leader-elect=false --bind-address=127.0.0.1 "${features[@]}"
}

runtime_up() {
  local node=$1 folder=$lab/node-$1
  mkdir -p "$folder"/{cni,containerd,certs.d/"$registry_address",opt}
  # Without TLS: it is reached over nothing but a bridge of this machine.
  printf '[host."http://%s"]\n  capabilities = ["pull", "resolve", "push"]\n' "$registry_address" \
    >"$folder/certs.d/$registry_address/hosts.toml"
  # Limits of memory pressure (oom_score_adj) below a process's own need a capability that some machines withhold.
  cat >"$folder/containerd.toml" <<TOML
version = 3
root = "$folder/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$folder/opt"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "$pause_image"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "$folder/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "$runc_bin/runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.old-runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.old-runc.options]
        BinaryName = "$old_runc_bin/runc"
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["$(cni_plugins)"]
    conf_dir = "$folder/cni"
TOML
  cat >"$folder/cni/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local",
    "ranges": [[{"subnet": "$(pod_subnet "$node")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
  start "$node" containerd containerd --config "$folder/containerd.toml"
}

runtime_ready() { answering "$1" containerd 30 in_node "$1" "$containerd_bin/ctr" version; }

# Once an image has been pulled under one name, newer kubelets want to pull it again before they let a pod use the same
# image under another name, even if that was brought here by `load`.
image_policy() {
  if ((10#$(cut -d. -f2 <<<"$kube_version") >= 35)); then echo 'imagePullCredentialsVerificationPolicy: NeverVerify'; fi
}

kubelet_prepare() {
  local node=$1 folder=$lab/node-$1
  (
    cd "$lab/pki" && certificate "kubelet-$node" "/O=system:nodes/CN=system:node:node-$node" "DNS:node-$node,IP:127.0.0.1,IP:$(node_address "$node")"
  ) >>"$logs/certificates.log" 2>&1 || fail 70 "no certificate for node $node; see $logs/certificates.log"
  kubeconfig "kubelet-$node" "$folder/kubelet.conf"
  # Nothing answers names here: an address that refuses at once is better than one that is silent.
  echo "nameserver $(node_address "$node")" >"$folder/resolv.conf"
  cat >"$folder/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {x509: {clientCAFile: $lab/pki/ca.crt}, anonymous: {enabled: false}, webhook: {enabled: true}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup/node-$node
failCgroupV1: false
seccompDefault: false
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [$(node_address "$node")]
resolvConf: $folder/resolv.conf
volumePluginDir: /var/lib/kubelet/volume-plugins
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
tlsCertFile: $lab/pki/kubelet-$node.crt
tlsPrivateKeyFile: $lab/pki/kubelet-$node.key
nodeLeaseDurationSeconds: 16
$(image_policy)
# The machine's disk is shared with all else that is on it.
evictionHard: {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
YAML
}

kubelet_start() {
  start "$1" kubelet kubelet --config="$lab/node-$1/kubelet.yaml" --kubeconfig="$lab/node-$1/kubelet.conf" \
    --hostname-override="node-$1" --node-ip="$(node_address "$1")" "${features[@]}"
}

proxy_start() {
  # What the kernel keeps of connections is the machine's to set.
  start "$1" kube-proxy kube-proxy --kubeconfig="$lab/admin.conf" --proxy-mode=iptables --hostname-override="node-$1" \
    --bind-address="$(node_address "$1")" --healthz-bind-address=127.0.0.1:10256 --metrics-bind-address=127.0.0.1:10249 \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 \
    "${features[@]}"
}

kubectl() { "$kube_bin/kubectl" --kubeconfig "$lab/admin.conf" "$@"; }

# node_ready NODE
node_ready() {
  { kubectl wait --for=create "node/node-$1" --timeout=60s >/dev/null &&
    kubectl wait --for=condition=Ready "node/node-$1" --timeout=60s >/dev/null; } ||
    fail 75 "node $1 is not ready after 60 s; its log: $logs/kubelet-$1.log"
}

# Claims of the default class are provisioned at once, as on minikube; those of `never-bound` are not, ever.
# A kubelet that is faster than the API server's idea of what its node runs would be refused the claim, and try again
# only seconds later; so here a node may read what any node may.
objects_up() {
  kubectl apply -f - >/dev/null <<'YAML'
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: trampoline-lab-nodes}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:node}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: system:nodes}]
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/host-path
reclaimPolicy: Delete
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: never-bound}
provisioner: trampoline-lab/none
YAML
}
