# The four programs of the pod. Static, because an image has no loader outside /nix.
{ pkgs, ... }:
let
  manifest = builtins.fromTOML (builtins.readFile ../Cargo.toml);
  agents = [
    "daemon-init"
    "user-init"
    "shutdown-monitor"
    "maintenance-agent"
  ];
in
pkgs.pkgsStatic.rustPlatform.buildRustPackage {
  pname = "nix-trampoline-agents";
  inherit (manifest.workspace.package) version;
  src = ../.;
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = map (agent: "--package=${agent}") agents;
  # They want root, loop devices and a podman: ./test.sh
  doCheck = false;
  meta = {
    description = "Agents of nix-trampoline's pod";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
