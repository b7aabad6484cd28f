# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by run: seeding a store volume durably, cold, against a plain copy and against the disk's own speed.

measure_seeding() {
  # What a disk takes for the same half a gigabyte varies by a factor of three.
  local n times=$((quick ? runs : 3 * runs))
  say 'seeding: making an image with a realistic store'
  need mkfs.ext4:e2fsprogs losetup:mount tar:tar
  quietly build_seeder || fail 76 'the seeding program cannot be built'
  root=$work/image
  seeding_source
  row seeding-cp ratio s 0.35 "Seed an empty volume, durably, disk cache cold ($seeding_size)" \
    "daemon-init's seeding, with registration and roots" "\`cp -a\` and \`sync\` of the files alone"
  row seeding-dd ratio s 1.25 'The same' \
    "daemon-init's seeding, with registration and roots" "\`dd conv=fsync\` of the same bytes as one file"
  for ((n = 1; n <= times; n++)); do
    say "seeding: $n of $times"
    seeding_run seeding ours seeding_ours
    seeding_run seeding-cp theirs seeding_cp
    seeding_run seeding-dd theirs seeding_dd
  done
  copy_samples seeding ours seeding-cp
  copy_samples seeding ours seeding-dd
  tidy_mounts
  rm -rf --one-file-system "$root" "$work/blob" "$work/volume.img"
}

# seeding_source: an image's root in $root, its store's bytes as one file, its size in $seeding_size.
seeding_source() {
  local n names=()
  seeding_unpack
  for ((n = 1; n <= (quick ? 4 : 40); n++)); do
    seeding_package "$root/bench-input/package-$n" "$n"
    names+=("/bench-input/package-$n")
  done
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
  quietly in_root nix-store --add "${names[@]}" || fail 76 'the store cannot be made'
  rm -rf "$root/bench-input"
  quietly in_root /opt/trampoline/bin/seed_bench bake / || fail 76 'the image cannot be made'
  find "$root/nix/store" -type f -exec cat {} + >"$work/blob"
  # Written once, so that no run allocates below its file system.
  dd if=/dev/zero of="$work/volume.img" bs=1M count=$((quick ? 800 : 2000)) status=none conv=fsync
  seeding_size="$(($(stat -c %s "$work/blob") / 1000000)) MB, $(find "$root/nix/store" -type f | wc -l) files"
}

seeding_unpack() {
  local mounted
  mounted=$(podman image mount "$image")
  mkdir -p "$root"
  cp -a "$mounted/." "$root/"
  podman image unmount "$image" >/dev/null
  mkdir -p "$root"/{proc,dev}
  install -m 0755 "$seeder" "$root/opt/trampoline/bin/seed_bench"
}

# seeding_package FOLDER SALT: 280 files of 10 MB, most of them small.
seeding_package() {
  text_files "$1/share" 180 2000 "$2-a"
  text_files "$1/lib" 70 8000 "$2-b"
  random_files "$1/lib" 25 64000 c
  random_files "$1/bin" 5 1600000 d
}

in_root() {
  chroot "$root" /usr/bin/env -i PATH=/nix/var/nix/profiles/default/bin:/bin HOME=/root NIX_REMOTE=local "$@"
}

# seeding_run ID SIDE COMMAND: each on a file system of its own: where much was deleted, new files are made slowly.
seeding_run() {
  local folder=$root/trampoline/volume/nix
  quietly mkfs.ext4 -q -F -m 0 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$work/volume.img" ||
    fail 76 'no file system can be made'
  mount -o loop "$work/volume.img" "$folder"
  cold
  clock "$1" "$2" "$3" "$folder"
  umount "$folder"
}

seeding_ours() {
  in_root /opt/trampoline/bin/seed_bench seed / /trampoline/volume
}

seeding_cp() {
  cp -a "$root/nix/." "$1/" && sync -f "$1"
}

seeding_dd() {
  dd if="$work/blob" of="$1/blob" bs=1M conv=fsync status=none
}
