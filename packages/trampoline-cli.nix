# The client, with the agents and container/ inside, so that `trampoline-cli image build` works from any folder.
{ pkgs, perSystem, ... }:
let
  manifest = builtins.fromTOML (builtins.readFile ../Cargo.toml);
  # An image is for Linux; elsewhere the client uses one that is there.
  embedded =
    if pkgs.stdenv.hostPlatform.isLinux then
      { TRAMPOLINE_AGENTS_DIR = "${perSystem.self.agents}/bin"; }
    else
      { };
in
pkgs.rustPlatform.buildRustPackage {
  pname = "trampoline-cli";
  inherit (manifest.workspace.package) version;
  src = ../.;
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [ "--package=trampoline-cli" ];
  env = embedded;
  # They want podman, ssh and git: ./test.sh
  doCheck = false;
  meta = {
    description = "Client of nix-trampoline: Nix builders in one pod";
    mainProgram = "trampoline-cli";
  };
}
