//! How the client reaches a cluster: what a kubeconfig may say, what may be wrong with it, and that no message quotes a
//! secret.

use std::io::{Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::cluster::{self, Namespace};
use e2e::output::Output;
use e2e::person::Person;
use serde_json::{Value, json};

crate::scenarios! {
    Cluster: [
        plugin_gives_credentials_or_its_failure_is_told,
        credentials_that_the_cluster_does_not_take,
        server_that_is_not_who_it_should_be,
        proxy_is_gone_through_and_named,
        kubeconfig_in_several_files,
    ],
}

/// In each secret: no message may hold it.
const SECRET: &str = "t-s3cret";

/// Somebody with a kubeconfig of their own, and a builder that is not there: asking for it takes no pod.
struct Caller {
    builder: Builder,
    namespace: Namespace,
}

impl Caller {
    fn new() -> Self {
        let namespace = Namespace::new(&json!({}));
        let builder = Builder::new(Person::new(), &[("kubernetes.namespace", &namespace.option())]);
        Self { builder, namespace }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.builder.person().home().join(name);
        std::fs::write(&file, text).expect("a folder of ours");
        file
    }

    fn status(&self, config: &Value) -> Output {
        let file = self.file("kubeconfig", &config.to_string());
        let output = self.builder.cli(["status"]).env("KUBECONFIG", file).within(40).run();
        assert!(!format!("{output}").contains(SECRET), "a secret in {output}");
        output
    }

    fn reaches(&self, config: &Value) {
        assert!(self.status(config).ok().stdout.contains("absent"));
    }

    fn refused(&self, config: &Value, exit: Exit, cause: &str, hint: &str) {
        let output = self.status(config);
        let next =
            output.stderr.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default().to_owned();
        assert!(next.contains(hint), "no {hint:?} in {output}");
        output.refused(exit, cause);
    }

    /// A program that stands in the kubeconfig.
    fn plugin(&self, name: &str, script: &str) -> Value {
        let file = self.file(name, &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("ours");
        self.exec(file.to_str().expect("no odd folder"))
    }

    fn exec(&self, command: &str) -> Value {
        let mut config = cluster::admin();
        config["users"][0]["user"] = json!({ "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": command,
            "args": [format!("--password={SECRET}")],
            "interactiveMode": "Never",
            "installHint": "get it from\nhttps://plugins.example",
        } });
        config
    }
}

fn plugin_gives_credentials_or_its_failure_is_told() {
    let caller = Caller::new();
    let rules = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"] }]);
    let token = caller.namespace.token("plugin", &rules);
    let credential = |token: &str| {
        let kind = json!({ "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential" });
        let mut credential = kind;
        credential["status"] = json!({ "token": token });
        format!("echo '{credential}'")
    };
    caller.reaches(&caller.plugin("good", &credential(&token)));

    let refused = |config: &Value, cause: &str, hint: &str| {
        caller.refused(config, Exit::NoPermission, cause, hint);
    };
    let fails = format!("{}; echo 'session has expired' >&2; exit 3", credential(SECRET));
    let config = caller.plugin("fails", &fails);
    refused(&config, "fails failed (exit status: 3): session has expired", "log in");
    refused(&caller.plugin("silent", "exit 1"), "silent failed (exit status: 1), without a word", "log in");
    let babbles = format!("echo 'token: {{ {SECRET}'");
    refused(&caller.plugin("babbles", &babbles), "babbles printed no credentials", "ExecCredential");
    let missing = caller.exec("t-no-such-plugin");
    refused(&missing, "plugin t-no-such-plugin is not installed", "get it from https://plugins.example");
    refused(&caller.plugin("refused", &credential(SECRET)), "(401)", "log in");
}

fn credentials_that_the_cluster_does_not_take() {
    let caller = Caller::new();
    let mut config = cluster::admin();
    config["users"][0]["user"] = json!({ "token": SECRET });
    caller.refused(&config, Exit::NoPermission, "does not accept them (401)", "log in");
    config["users"][0]["user"] = json!({ "tokenFile": "/t-there-is-no-such-file" });
    caller.refused(&config, Exit::NoPermission, "/t-there-is-no-such-file", "log in");
    // Known, and allowed nothing.
    let token = caller.namespace.token("nobody", &json!([]));
    config["users"][0]["user"] = json!({ "token": token });
    let denied = caller.status(&config);
    assert!(denied.stderr.contains("nobody may not "), "{denied}");
    denied.refused(Exit::NoPermission, caller.namespace.name());
}

fn server_that_is_not_who_it_should_be() {
    let caller = Caller::new();
    let with = |key: &str, value: Value| {
        let mut config = cluster::admin();
        config["clusters"][0]["cluster"][key] = value;
        config
    };
    let untrusted = |config: &Value, hint: &str| {
        caller.refused(config, Exit::Engine, "no trusted connection to the API server", hint);
    };
    let (key, certificate) = (caller.file("ca.key", ""), caller.file("ca.crt", ""));
    let make = caller
        .builder
        .call("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=t"]);
    make.arg("-keyout").arg(key).arg("-out").arg(&certificate).run().ok();
    let encoded = caller.builder.call("base64").arg("-w0").arg(&certificate).run().ok();
    untrusted(&with("certificate-authority-data", encoded.text().into()), "certificate-authority");
    untrusted(&with("tls-server-name", "t.invalid".into()), "tls-server-name");
    // A name that every API server's certificate has.
    caller.reaches(&with("tls-server-name", "kubernetes.default.svc".into()));
    let nobody = with("server", "https://127.0.0.1:1".into());
    caller.refused(
        &nobody,
        Exit::Engine,
        "https://127.0.0.1:1 is not there: connection refused",
        "right cluster",
    );
}

/// Whom the proxy lets through, as in its URL and as in a header (RFC 7617).
const PROXY_USER: (&str, &str) = ("somebody:a%40b", "basic c29tzwjvzhk6yubi");

/// Tunnels as an HTTP proxy makes them, for who says who it is; its address with that, and the client's end of each so far.
pub(crate) fn proxy() -> (String, Arc<Mutex<Vec<TcpStream>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("{}@{}", PROXY_USER.0, listener.local_addr().expect("its address"));
    let tunnels = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&tunnels);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || tunnel(client, &seen));
        }
    });
    (address, tunnels)
}

fn tunnel(mut client: TcpStream, seen: &Mutex<Vec<TcpStream>>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let user = head
        .to_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("proxy-authorization: ").map(str::to_owned));
    if user.as_deref() != Some(PROXY_USER.1) {
        client.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n").ok()?;
        return None;
    }
    let mut server = TcpStream::connect(target).ok()?;
    seen.lock().ok()?.push(client.try_clone().ok()?);
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write)
    });
    copy(&mut server, &mut client).ok()?;
    client.shutdown(Shutdown::Write).ok()
}

fn proxy_is_gone_through_and_named() {
    let caller = Caller::new();
    let through = |proxy: &str| {
        let mut config = cluster::admin();
        config["clusters"][0]["cluster"]["proxy-url"] = format!("http://{proxy}").into();
        config
    };
    let (address, tunnels) = proxy();
    caller.reaches(&through(&address));
    assert!(!tunnels.lock().expect("nobody panics").is_empty(), "it was asked");
    let dead = through(&format!("somebody:{SECRET}@127.0.0.1:1"));
    caller.refused(&dead, Exit::Engine, "is not there through the proxy http://127.0.0.1:1", "proxy-url");
}

fn kubeconfig_in_several_files() {
    let caller = Caller::new();
    let all = cluster::admin();
    let part = |name: &str, keys: &[&str]| {
        let mut part = json!({ "apiVersion": "v1", "kind": "Config" });
        keys.iter().for_each(|&key| part[key] = all[key].clone());
        caller.file(name, &part.to_string())
    };
    let files = [
        part("one", &["clusters", "contexts"]),
        caller.builder.person().home().join("not-there"),
        part("two", &["users", "current-context"]),
    ];
    let list = std::env::join_paths(&files).expect("no odd folder");
    let status = caller.builder.cli(["status"]).env("KUBECONFIG", &list).run().ok();
    assert!(status.stdout.contains("absent"), "{status}");
    let other = caller.builder.cli(["--context", "t-none", "status"]).env("KUBECONFIG", &list).run();
    let has = all["contexts"][0]["name"].as_str().expect("it has one").to_owned();
    other.refused(Exit::Config, &format!("no context t-none in the kubeconfig; it has: {has}"));
}
