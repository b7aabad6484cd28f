//! Shell lines that look at the processes of a container, by what any shell has.

/// Sets `parent` to that of the process `$p`, and to nothing where that has ended: without the first assignment it
/// would be taken for a child of the one that was looked at before it.
pub const PARENT: &str = "parent=; { while read key value rest; do \
    [ $key = PPid: ] && parent=$value; done </proc/$p/status; } 2>/dev/null";

/// Prints the ids of the processes of this name of whose parent `condition` holds.
#[must_use]
pub fn named(name: &str, condition: &str) -> String {
    format!(
        "for p in /proc/[0-9]*; do p=${{p#/proc/}}; [ \"$(cat /proc/$p/comm 2>/dev/null)\" = {name} ] || continue; \
         {PARENT}; if {condition}; then echo $p; fi; done"
    )
}
