#!/bin/sh
# The maintenance container of the yardstick: looks at the disk once a minute, collects when it is nearly full.
set -eu

while :; do
  sleep 60
  used=$(df -P /nix | awk 'NR == 2 { sub("%", "", $5); print $5 }')
  if [ "$used" -gt 85 ]; then
    nix-collect-garbage
  fi
done
