# For people who work on this project, or try a builder in a cluster on their own machine.
{ pkgs, ... }:
pkgs.mkShell {
  packages = [
    # The cluster on this machine, its client, and a look into it.
    pkgs.minikube
    pkgs.kubectl
    pkgs.k9s
    # To build and check what is here.
    pkgs.cargo
    pkgs.clippy
    pkgs.rustc
    pkgs.rustfmt
    pkgs.shellcheck
  ];
}
