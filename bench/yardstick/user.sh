#!/bin/sh
# The user container of the yardstick: waits for the daemon, then serves SSH.
set -eu

until [ -e /run/trampoline/ready ]; do
  sleep "$LOOK"
done

mkdir -p /home/nix/.ssh
if [ ! -e /home/nix/.ssh/host_key ]; then
  ssh-keygen -q -t ed25519 -N '' -f /home/nix/.ssh/host_key
fi
exec "$(command -v sshd)" -D -e -p 2222 -h /home/nix/.ssh/host_key -o PidFile=none
