//! What the user's side of the daemon's protocol could ask for.

use e2e::nix_files::derivation;

use super::{Attempt, all_fail, all_work_for_root, as_root, attempts};
use crate::shared;

crate::scenarios! {
    Any: [
        forged_path_is_not_taken,
        programs_of_the_user_are_not_run_by_the_daemon,
        store_cannot_be_opened_beside_the_daemon,
        paths_that_are_no_names_are_not_taken,
    ],
}

/// Shell lines that make a binary cache in `$cache`, by hand, with a path of `$out` that no builder has made: the output that
/// the derivation `name` is going to have, with other content. `$export` is the same as a stream.
fn forgery(name: &str) -> String {
    let nix = derivation(name, "echo good > $out").replace('\n', " ");
    let script = r#"
        set -e
        cache=/home/nix/t-forged-NAME export=/home/nix/t-forged-NAME/export
        if [ "$(id -u)" != 0 ]; then
          rm -rf $cache; mkdir -p $cache/nar; cd $cache
          printf '%s' "$NIX" >it.nix
          nix-store -q --outputs "$(nix-instantiate it.nix)" >out
          echo evil >evil
          nix-store --dump evil >nar/evil.nar
          echo 'StoreDir: /nix/store' >nix-cache-info
          out=$(cat out) base=$(basename "$(cat out)")
          printf '%s\n' "StorePath: $out" 'URL: nar/evil.nar' 'Compression: none' \
            "NarHash: sha256:$(nix-hash --flat --type sha256 --base32 nar/evil.nar)" \
            "NarSize: $(wc -c <nar/evil.nar)" 'References: ' >"${base%%-*}.narinfo"
          { printf '\001\0\0\0\0\0\0\0'; cat nar/evil.nar; printf 'NIXE\0\0\0\0'
            printf "\\$(printf %03o ${#out})\0\0\0\0\0\0\0%s" "$out"
            head -c $(( (8 - ${#out} % 8) % 8 )) /dev/zero
            head -c 32 /dev/zero; } >export
          nix key generate-secret --key-name t-own >secret
          nix key convert-secret-to-public <secret >public
        fi
        out=$(cat $cache/out)
        set +e
    "#;
    format!(
        "export NIX_CONFIG='extra-experimental-features = nix-command'\nNIX='{nix}'\n{}",
        script.replace("NAME", name)
    )
}

/// Each leaves `$out` valid if it works.
const FORGERIES: [(&str, &str); 8] = [
    ("copy", "nix copy --no-check-sigs --from file://$cache $out"),
    (
        "copy, with the check switched off",
        "nix copy --no-check-sigs --option require-sigs false --from file://$cache $out",
    ),
    ("import", "nix-store --import <$export"),
    (
        "substitute",
        "nix-store --realise $out --option substituters file://$cache --option require-sigs false --option trusted-substituters file://$cache",
    ),
    (
        "signed by a key of one's own",
        "nix store sign --store file://$cache -k $cache/secret $out; \
         nix copy --option extra-trusted-public-keys \"$(cat $cache/public)\" --from file://$cache $out",
    ),
    (
        "substitute what is signed by a key of one's own",
        "nix-store --realise $out --option extra-substituters \"file://$cache?trusted=1\" \
           --option extra-trusted-public-keys \"$(cat $cache/public)\"",
    ),
    ("the store itself", "nix copy --no-check-sigs --from file://$cache --to local $out"),
    ("into the database", "printf '%s\\n\\n0\\n' $out | NIX_REMOTE=local nix-store --register-validity"),
];

fn forged_path_is_not_taken() {
    let builder = shared::builder();
    let check = |line: &str| format!("{line}; nix-store --check-validity $out");
    let tries: Vec<Attempt> =
        FORGERIES.iter().map(|(what, line)| ((*what).to_owned(), check(line))).collect();
    let before = forgery("t-forgery");
    // What the user makes by hand is whole but for the trust: root, whom the daemon does trust, brings it in.
    for (what, line) in [FORGERIES[0], FORGERIES[2]] {
        let control = forgery(&format!("t-control-{what}"));
        builder.shell(&control).ok();
        let tries = attempts([(what, format!("{line}; [ \"$(cat $out)\" = evil ]").as_str())]);
        all_work_for_root(builder, &format!("export HOME=/tmp NIX_REMOTE=daemon\n{control}"), &tries);
    }
    all_fail(builder, &before, &tries);
    let built = builder.shell(&format!("{before}\ncat $(nix-build --no-out-link $cache/it.nix)")).ok();
    assert_eq!(built.text(), "good", "{built}");
    // Not afterwards, either.
    let repair = "nix-store --repair-path $out --option substituters file://$cache; \
                  nix-store --realise --repair $out --option substituters file://$cache; \
                  nix store repair --option substituters file://$cache $out; [ \"$(cat $out)\" = evil ]";
    all_fail(builder, &before, &attempts([("repair", repair)]));
    builder.shell("chmod -R u+w ~/t-forged-*; rm -rf ~/t-forged-*").ok();
}

/// A program that tells who ran it.
const HOOK: &str = "printf '#!/bin/sh\\necho ran >>/home/nix/t-hooked\\n' >~/t-hook; chmod +x ~/t-hook; rm -f /home/nix/t-hooked\n";

fn programs_of_the_user_are_not_run_by_the_daemon() {
    let builder = shared::builder();
    let build = |name: &str, options: &str| {
        let nix =
            derivation(name, "read id </proc/sys/kernel/random/uuid; echo $id > $out").replace('\n', " ");
        format!(
            "nix-build --no-out-link {options} -E '{nix}'; nix-build --no-out-link {options} --check -E '{nix}'; \
             [ -e /home/nix/t-hooked ]"
        )
    };
    let hook = "/home/nix/t-hook";
    let tries: Vec<Attempt> = [
        ("after a build", format!("--option post-build-hook {hook}")),
        ("before a build", format!("--option pre-build-hook {hook}")),
        ("elsewhere", format!("--option build-hook {hook} --option builders 'ssh://t-nowhere x86_64-linux'")),
        ("between two builds", format!("--option run-diff-hook true --option diff-hook {hook}")),
        ("as a plug-in", format!("--option plugin-files {hook}")),
        ("in the sandbox", format!("--option extra-sandbox-paths /home/nix --option post-build-hook {hook}")),
    ]
    .into_iter()
    .map(|(what, options)| (what.to_owned(), build(&format!("t-hook-{}", what.replace(' ', "-")), &options)))
    .collect();
    // By every way in which a user gives an option.
    let with_file =
        format!("{HOOK}mkdir -p ~/.config/nix; echo 'post-build-hook = {hook}' >~/.config/nix/nix.conf");
    all_fail(builder, HOOK, &tries);
    let named = |name: &str| vec![("by the environment or a file".to_owned(), build(name, ""))];
    all_fail(builder, &with_file, &named("t-hook-file"));
    builder.shell("rm ~/.config/nix/nix.conf").ok();
    all_fail(builder, &format!("{HOOK}export NIX_CONFIG='post-build-hook = {hook}'"), &named("t-hook-env"));
    // Root's are run: the daemon knows these options, and the program is one that can be run.
    let line = build("t-hook-root", &format!("--option post-build-hook {hook}"));
    all_work_for_root(builder, "export HOME=/tmp NIX_REMOTE=daemon", &attempts([("root", line.as_str())]));
    as_root(builder, "rm -f /home/nix/t-hook /home/nix/t-hooked").ok();
}

fn store_cannot_be_opened_beside_the_daemon() {
    let tries = attempts([
        ("add", "echo x >t; NIX_REMOTE=local nix-store --add t"),
        ("delete", "NIX_REMOTE=local nix-store --gc"),
        ("optimise", "NIX_REMOTE=local nix-store --optimise"),
    ]);
    all_fail(shared::builder(), "cd ~; echo x >t", &tries);
}

fn paths_that_are_no_names_are_not_taken() {
    let tries = attempts([
        ("a name that leads up", "echo x >t; nix store add --name ../../t-escaped t"),
        (
            "a name with a slash",
            "nix-instantiate -E 'derivation { name = \"a/../../t-escaped\"; system = \"x\"; builder = \"x\"; }'",
        ),
        (
            "an output that leads up",
            "nix-instantiate -E 'derivation { name = \"t\"; outputs = [ \"../t\" ]; system = \"x\"; builder = \"x\"; }'",
        ),
        (
            "a root for ever",
            "nix-store --realise /nix/var/nix/profiles/default --add-root /nix/var/nix/gcroots/t-escaped",
        ),
        ("delete what is no path", "nix-store --delete /nix/store/../../etc/passwd"),
        ("delete what is in use", "nix-store --delete \"$(readlink -f /nix/var/nix/profiles/default)\""),
        (
            "delete it nevertheless",
            "nix-store --delete --ignore-liveness \"$(readlink -f /nix/var/nix/profiles/default)\"",
        ),
    ]);
    let before = "cd ~; export NIX_CONFIG='extra-experimental-features = nix-command'";
    all_fail(shared::builder(), before, &tries);
    let left = as_root(
        shared::builder(),
        "ls -d /nix/t-escaped /t-escaped /nix/store/*t-escaped* 2>/dev/null; true",
    );
    assert_eq!(left.stdout, "", "{left}");
}
