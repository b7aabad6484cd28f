//! Seeding by itself, for measurements: `seed_bench bake IMAGE_ROOT`, then `seed_bench seed IMAGE_ROOT VOLUME_ROOT
//! [THREADS]`, which prints the seconds that it took.
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use daemon_init::bake::{self, Bake};
use daemon_init::seed::abort::Abort;
use daemon_init::seed::watch::{Observer, Step, Unwatched, Watch};
use daemon_init::seed::{self, Image, ImagePaths, Options};
use daemon_init::volume::{self, Open};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["bake", root] => {
            let manifest = bake::run(&Bake { root: root.into(), base: "bench".into() })?;
            println!("{} paths", manifest.paths.len());
            Ok(())
        }
        ["seed", image, volume] => seed(Path::new(image), Path::new(volume), 0),
        ["seed", image, volume, threads] => seed(Path::new(image), Path::new(volume), threads.parse()?),
        _ => {
            Err("usage: seed_bench bake IMAGE_ROOT | seed_bench seed IMAGE_ROOT VOLUME_ROOT [THREADS]".into())
        }
    }
}

fn seed(image: &Path, root: &Path, threads: u32) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let image = Image::load(ImagePaths {
        nix: image.join("nix"),
        manifest: image.join("opt/trampoline/image.json"),
        registration: image.join("opt/trampoline/registration"),
    })?;
    let abort = Abort::new();
    let mut volume = volume::open(&Open { root, image: &image, adopt: false, abort: &abort })?;
    let steps = Steps(begun);
    let observer: &dyn Observer = if std::env::var_os("STEPS").is_some() { &steps } else { &Unwatched };
    let options = Options { threads, may_collect: false };
    let seeded = seed::run(&mut volume, &image, options, &Watch::new(observer, &abort))?;
    println!("{:.3} s, {} paths, {}", begun.elapsed().as_secs_f64(), seeded.paths, seeded.room);
    Ok(())
}

/// Where the time goes.
struct Steps(Instant);

impl Observer for Steps {
    fn step(&self, step: Step) {
        println!("{:.3} {step:?}", self.0.elapsed().as_secs_f64());
    }
}
