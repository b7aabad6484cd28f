# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: the pod that shell scripts run, and the builder that stands against it.

# Below those that the builder takes.
yardstick_port=22199
# Anybody's.
yardstick_public_key='ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBJGXmjOvTTDrbYcJcGLEYZpoMQWmJbTxMnVVE4LZyZ9 bench'

# yardstick_volumes: those that outlive a pod, made and filled beforehand, as those of the builder are.
yardstick_volumes() {
  podman volume create --opt nocopy "$yardstick-store"
  podman volume create --opt nocopy "$yardstick-home"
  podman run --rm --network none --volume "$yardstick-store:/mnt/store" --volume "$yardstick-home:/home/nix" \
    --entrypoint '["/bin/sh", "-c"]' "$image" 'cp -a /nix/. /mnt/store/ && touch /mnt/store/.seeded && chown 1000:1000 /home/nix'
} >/dev/null

# yardstick_play LOOK: the volumes that go with a pod, as setup makes them, and the pod, whose scripts look every LOOK seconds.
yardstick_play() {
  podman volume create --opt type=tmpfs --opt device=tmpfs --opt o=uid=0,gid=0,mode=0755 "$yardstick-run" &&
    podman volume create --opt nocopy "$yardstick-scripts" &&
    tar -C "$here/yardstick" -c . | podman volume import "$yardstick-scripts" - &&
    sed "s|IMAGE|$image|; s|PORT|$yardstick_port|; s|value: \"LOOK\"|value: \"$1\"|" "$here/yardstick/pod.yaml" | podman kube play -
}

# yardstick_key: once SSH is served, whoever has this key may come in.
yardstick_key() {
  podman exec -i "$yardstick-user" /bin/sh -c '
    until [ -e /home/nix/.ssh/host_key ]; do sleep "$LOOK"; done
    cat >/home/nix/.ssh/authorized_keys' <<<"$yardstick_public_key"
}

yardstick_remove() {
  podman pod rm --force --time 0 "$yardstick" && podman volume rm "$yardstick-run" "$yardstick-scripts"
}

# yardstick_build SALT: as such pods are used from scripts: once the daemon is up, build.
yardstick_build() {
  podman exec "$yardstick-user" /bin/sh -c "
    until [ -e /run/trampoline/ready ]; do sleep \"\$LOOK\"; done
    nix build -f /scripts/build.nix --argstr salt $1 --print-out-paths --out-link /home/nix/result"
}

# ours ARGUMENT...: trampoline-cli on a builder of its own, away from the user's own files.
ours() {
  ours_in "$work/checkout" "$@"
}

# ours_in FOLDER ARGUMENT...
ours_in() {
  (cd "$1" && env HOME="$work/home" XDG_STATE_HOME="$work/home/state" XDG_CONFIG_HOME="$work/home/config" \
    "$cli" --name "$builder" --config "$work/trampoline.toml" "${@:2}")
}

# ours_checkout: what the builder builds, and how it is made. Called once, whatever is measured.
ours_checkout() {
  [[ ! -d $work/checkout ]] || return 0
  mkdir -p "$work/home" "$work/checkout"
  cat >"$work/trampoline.toml" <<END
[builder]
image = "$image"
[daemon]
substituters = []
[maintenance]
# What is collected has just come in, on a disk that others use as well.
grace-window = "0s"
collect-below = "0%"
refuse-below = "0%"
END
  cp "$here/yardstick/build.nix" "$work/checkout/"
  git_in "$work/checkout" init --quiet
  git_in "$work/checkout" add .
  git_in "$work/checkout" commit --quiet --message=start
}

# git_in FOLDER ARGUMENT...: whatever the user's own settings are.
git_in() {
  git -C "$1" -c user.name=bench -c user.email=bench@localhost -c commit.gpgsign=false "${@:2}"
}

# ours_setup: the builder, running and with the checkout in it.
ours_setup() {
  ours_checkout
  ours setup --yes && ours push-tarball
}
