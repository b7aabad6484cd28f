# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: removes what a run has made, also one that was cut off. Only what carries our names is touched.

# below_work: mounts in the work folder, the deepest first.
below_work() {
  awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/self/mounts | sort -r
}

tidy_mounts() {
  local mount
  below_work | while read -r mount; do
    umount "$mount" 2>/dev/null || umount -l "$mount"
  done
}

tidy_podman() {
  local volume
  command -v podman >/dev/null || return 0
  for name in "$yardstick" "trampoline-$builder"; do
    if podman pod exists "$name"; then podman pod rm --force "$name" >/dev/null 2>&1 || true; fi
  done
  podman volume ls --quiet 2>/dev/null | while read -r volume; do
    if [[ $volume == "$prefix"* ]]; then podman volume rm --force "$volume" >/dev/null || true; fi
  done
}

# What another run still uses is kept by its lock, which run holds.
tidy() {
  tidy_mounts
  kube_down
  tidy_podman
  rm -rf --one-file-system "$work"
}
