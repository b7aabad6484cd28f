// Beside containerd's own seccomp_default.go, by make-profile: prints that default with Nix's system calls added.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What containerd's source asks for.
var goarch string

// By these Nix makes the sandbox of a build. All of them act within the pod's user namespace alone.
var added = []string{"chroot", "clone", "mount", "pivot_root", "setdomainname", "sethostname", "umount2", "unshare"}

var architectures = []struct {
	goarch string
	names  []specs.Arch
}{
	{"amd64", []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}},
	{"arm64", []specs.Arch{specs.ArchAARCH64, specs.ArchARM}},
}

func main() {
	// As the daemon container has them, though none of the five changes the default.
	capabilities := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID"}
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}}
	profile := &specs.LinuxSeccomp{}
	seen := map[string]bool{}
	for _, architecture := range architectures {
		goarch = architecture.goarch
		one := DefaultProfile(spec)
		profile.DefaultAction, profile.DefaultErrnoRet = one.DefaultAction, one.DefaultErrnoRet
		profile.Architectures = append(profile.Architectures, architecture.names...)
		for _, rule := range one.Syscalls {
			rule.Names = slices.DeleteFunc(rule.Names, func(name string) bool { return slices.Contains(added, name) })
			text, err := json.Marshal(rule)
			if err != nil {
				fail(err)
			}
			if len(rule.Names) > 0 && !seen[string(text)] {
				seen[string(text)] = true
				profile.Syscalls = append(profile.Syscalls, rule)
			}
		}
	}
	if profile.DefaultAction != specs.ActErrno || len(profile.Syscalls) < 10 {
		fail(fmt.Errorf("an unknown default: %s and %d rules", profile.DefaultAction, len(profile.Syscalls)))
	}
	profile.Syscalls = append(profile.Syscalls, specs.LinuxSyscall{Names: added, Action: specs.ActAllow})
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(profile); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
