# A program that needs nothing but Nix itself: no nixpkgs, no network.
#
#   trampoline-cli build -f hello.nix
#   trampoline-cli shell -- ./result/bin/hello-trampoline
let
  # Nix's sandbox has a shell and nothing else. Some shells for it know mkdir and chmod themselves
  # (busybox with its applets); nixos/nix's does not, so the builder's own profile lends its programs.
  default = /nix/var/nix/profiles/default;
  profile = if builtins.pathExists default then builtins.storePath default else "/no-default-profile";
in
derivation {
  name = "hello-trampoline";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [
    "-euc"
    ''
      run() {
        program=$1
        shift
        $program "$@" 2>/dev/null || $profile/bin/$program "$@"
      }
      run mkdir -p "$out/bin"
      echo '#!/bin/sh' >"$out/bin/hello-trampoline"
      echo 'echo "Hello from a program that was built in the builder."' >>"$out/bin/hello-trampoline"
      run chmod 0755 "$out/bin/hello-trampoline"
    ''
  ];
  inherit profile;
  # Nobody's cache has it: do not ask.
  allowSubstitutes = false;
  preferLocalBuild = true;
}
