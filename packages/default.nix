# nix run github:…/nix-trampoline
{ perSystem, ... }:
perSystem.self.trampoline-cli
