#!/bin/sh
# The daemon container of the yardstick: the store volume is filled once, bound over /nix, and served.
set -eu

rm -f /run/trampoline/ready
if [ ! -e /mnt/store/.seeded ]; then
  cp -a /nix/. /mnt/store/
  mount --bind /mnt/store /nix
  nix-store --load-db </opt/trampoline/registration
  touch /mnt/store/.seeded
else
  mount --bind /mnt/store /nix
fi
chown 1000:1000 /home/nix

rm -f /nix/var/nix/daemon-socket/socket
nix-daemon &
until [ -S /nix/var/nix/daemon-socket/socket ]; do sleep "$LOOK"; done
touch /run/trampoline/ready
wait
