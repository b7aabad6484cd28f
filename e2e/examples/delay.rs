//! A long line, for measurements: `delay HOST:PORT MILLISECONDS` listens on this machine, prints its port, and carries each
//! connection to HOST:PORT and back, every byte by so many milliseconds later.
#![expect(clippy::print_stdout, reason = "its port")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const PART: usize = 64 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [to, milliseconds] = args.as_slice() else {
        return Err("usage: delay HOST:PORT MILLISECONDS".into());
    };
    let delay = Duration::from_millis(milliseconds.parse()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (near, _) = listener.accept()?;
        let far = TcpStream::connect(to)?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        later(near.try_clone()?, far.try_clone()?, delay);
        later(far, near, delay);
    }
}

/// One direction, until its end.
fn later(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (parts, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut part = vec![0; PART];
        // Its end travels as any part, and a connection that broke has ended.
        while let Ok(n) = from.read(&mut part) {
            if parts.send((Instant::now() + delay, part[..n].to_vec())).is_err() || n == 0 {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (at, part) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if part.is_empty() || to.write_all(&part).is_err() {
                break;
            }
        }
        // It may have been closed from there.
        let _ = to.shutdown(Shutdown::Write);
    });
}
