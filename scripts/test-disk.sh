# shellcheck shell=bash disable=SC2154
# Sourced by test.sh: a file system of the tests' own, for containers, volumes and clusters. It has a journal, which that of a machine
# may not have: an ext4 without one looks, for each new file, through all that were deleted within five minutes, and such a run
# deletes all the time. What the user's own podman holds is not looked at, and all that a run leaves goes at once.

test_disk=/var/tmp/trampoline-test
# Largest, MiB. The file behind it takes what is in use.
test_disk_size=24000

# disk_up: from here on everybody uses it. What a run that was cut off has left on it is cleared away where it is met.
disk_up() {
  if ((EUID != 0)) || [[ -n ${CONTAINERS_STORAGE_CONF:-} ]]; then return 0; fi
  if ! mountpoint -q "$test_disk" && ! disk_made; then
    say "-- tests use this machine's file systems as they are: $test_disk cannot be made"
    return 0
  fi
  export CONTAINERS_STORAGE_CONF=$test_disk/storage.conf TRAMPOLINE_LABS=$test_disk
}

on_test_disk() { [[ ${TRAMPOLINE_LABS:-} == "$test_disk" ]]; }

disk_made() {
  local room
  need mkfs.ext4:e2fsprogs
  rm -f "$test_disk.img"
  mkdir -p "$test_disk"
  room=$(df --output=avail --block-size=1M "$test_disk" | tail -n 1)
  room=$((room * 3 / 4 < test_disk_size ? room * 3 / 4 : test_disk_size))
  # Nothing on it outlives the machine, so that nothing need be waited for.
  { truncate --size "${room}M" "$test_disk.img" && mkfs.ext4 -q -F "$test_disk.img" &&
    mount -o loop,noatime,noinit_itable,nobarrier "$test_disk.img" "$test_disk"; } >&2 || return
  mkdir -m 1777 "$test_disk/tmp"
  printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$test_disk/containers" "$test_disk/run" \
    >"$test_disk/storage.conf"
}

# disk_down: with all that is on it. podman keeps its folder mounted on itself.
disk_down() {
  on_test_disk || return 0
  if mountpoint -q "$test_disk"; then umount --recursive --lazy "$test_disk"; fi
  rm -rf --one-file-system "$test_disk" "$test_disk.img"
}
