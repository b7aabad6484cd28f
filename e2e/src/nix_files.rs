//! Derivations that need nothing but a shell, and say by their log how far they are.

/// Prints `begun`, a number that no other run has, and `ended` after some seconds in which it is silent; the number
/// is the output.
#[must_use]
pub fn slow(name: &str, seconds: u32) -> String {
    let script = format!(
        "read id </proc/sys/kernel/random/uuid; echo begun $id; sleep {seconds}; echo $id > $out; echo ended"
    );
    derivation(name, &script)
}

/// The same, silent until [`crate::builder::Builder::let_builds_end`].
#[must_use]
pub fn until_told(name: &str) -> String {
    let script = "read id </proc/sys/kernel/random/uuid; mkfifo until-told; echo begun $id; read line <until-told; \
                  echo $id > $out; echo ended";
    derivation(name, script)
}

/// Writes a line to its log and another to its output.
#[must_use]
pub fn quick(name: &str, content: &str) -> String {
    derivation(name, &format!("echo building {name}; echo {content} > $out"))
}

/// Says why, and fails.
#[must_use]
pub fn failing(name: &str) -> String {
    derivation(name, "echo this goes wrong; exit 3")
}

/// A derivation of this name whose builder is a shell line.
#[must_use]
pub fn derivation(name: &str, script: &str) -> String {
    let script = script.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${");
    format!(
        "derivation {{\n  name = \"{name}\";\n  system = builtins.currentSystem;\n  builder = \"/bin/sh\";\n  \
         args = [ \"-c\" \"{script}\" ];\n}}\n"
    )
}
