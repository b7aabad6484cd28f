//! Reproducible random numbers.

use std::time::{Duration, SystemTime};

/// xorshift64*. A failed test prints its seed.
pub(crate) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// From `TRAMPOLINE_SEED`, or another each time.
    pub(crate) fn new(salt: u64) -> Self {
        let seed: u64 =
            std::env::var("TRAMPOLINE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
                now.subsec_nanos().into()
            });
        Self { seed, state: (seed ^ (salt << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end.max(1)
    }

    pub(crate) fn within(&mut self, span: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(span.as_micros()).unwrap()))
    }
}

impl Drop for Random {
    #[expect(clippy::print_stderr, reason = "the harness shows it where a test fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see it again: TRAMPOLINE_SEED={}", self.seed);
        }
    }
}
