//! Images other than the one that all other scenarios run on.

use std::path::Path;

use e2e::builder::Builder;
use e2e::call::Call;
use e2e::nix_files::derivation;
use e2e::person::Person;
use e2e::setting::setting;

crate::scenarios! {
    Podman: [
        image_of_nothing_but_a_store_and_links_builds,
        image_may_be_named_by_its_digest,
        image_built_anew_under_its_name_is_taken,
    ],
}

const HELLO: &str = include_str!("../../../hello.nix");

fn image_of_nothing_but_a_store_and_links_builds() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("nixos-shape");
    let tag = |what: &str| format!("localhost/t-{what}:{}", std::process::id());
    let (base, image) = (tag("nixos-shape"), tag("on-nixos-shape"));
    let made = Call::new(script).args(["--from", &setting().image, "--tag", &base]).run().ok();
    if made.stdout.is_empty() {
        // Then all other scenarios run on nixos/nix itself.
        return;
    }
    let images = [base, image].map(Image);
    let [base, image] = [&images[0].0, &images[1].0];

    let builder = Builder::new(Person::new(), &[("builder.image", &format!("{image:?}"))]);
    builder.cli(["image", "build", "--base", base]).run().ok();
    builder.cli(["setup", "--yes"]).run().ok();
    // That base's own nix.conf says that there is none.
    let inside =
        derivation("t-sandboxed", "[ ! -e /home/nix ] && [ ! -e /run/trampoline ] && echo alone > $out");
    let tree = builder.pushed("shape", &[("hello.nix", HELLO), ("sandboxed.nix", &inside)]);
    tree.cli(["build", "-f", "sandboxed.nix"]).run().ok();
    tree.cli(["build", "-f", "hello.nix"]).run().ok();
    let greeting = tree.cli(["shell", "--", "./result/bin/hello-trampoline"]).run().ok();
    assert!(greeting.text().starts_with("Hello from"), "{greeting}");
    let line = "id -un; command -v nix";
    let spoken = builder.cli(["ssh", "--", line]).run().ok();
    assert_eq!(spoken.text(), "nix\n/nix/var/nix/profiles/default/bin/nix");
    // What seeded the volume is a root of it.
    builder.cli(["maintenance"]).run().ok();
    builder.cli(["down"]).run().ok();
    assert_eq!(tree.cli(["shell", "--", "./result/bin/hello-trampoline"]).run().ok().stdout, greeting.stdout);
    builder.clean().ok();
}

/// Removed when it is dropped.
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Call::new("podman").args(["rmi", "-f", &self.0]).run();
    }
}

fn image_may_be_named_by_its_digest() {
    let inspect = ["image", "inspect", "--format", "{{index .RepoDigests 0}}", &setting().image];
    let named = Call::new("podman").args(inspect).run().ok();
    assert!(named.text().contains("@sha256:"), "{named}");
    let builder = Builder::set_up(&[("builder.image", &format!("{:?}", named.text()))]);
    builder.cli(["shell", "--", "true"]).run().ok();
}

fn image_built_anew_under_its_name_is_taken() {
    let image = Image(format!("localhost/t-anew:{}", std::process::id()));
    let Image(name) = &image;
    let make = |text: &str| {
        setting().engine.derive_image(name, &setting().image, &format!("echo {text} >/etc/t-anew"));
    };
    make("first");
    let builder = Builder::set_up(&[("builder.image", &format!("{name:?}"))]);
    let holds = || builder.cli(["shell", "--", "cat", "/etc/t-anew"]).run().ok();
    assert_eq!(holds().text(), "first");

    let changes = format!("changes content of image {name}: ");
    for (text, begin) in [("second", "down"), ("third", "up")] {
        make(text);
        builder.cli([begin]).run().ok();
        let told = builder.cli(["setup"]).run().ok();
        assert!(told.stderr.contains(&changes), "{told}");
        assert_eq!(holds().text(), text, "after `{begin}`");
    }
    let told = builder.cli(["setup"]).run().ok();
    assert!(told.stderr.contains("nothing to change"), "{told}");
    builder.clean().ok();
}
