//! One builder for all scenarios that leave it as they found it: each start costs seconds.

use std::sync::OnceLock;

use e2e::builder::Builder;

static SHARED: OnceLock<Builder> = OnceLock::new();

/// The builder, set up by whoever needs it first.
pub(crate) fn builder() -> &'static Builder {
    SHARED.get_or_init(|| Builder::set_up(&[]))
}

/// Takes it away; a static is never dropped.
pub(crate) fn end(failed: bool) {
    if let Some(builder) = SHARED.get() {
        if failed {
            builder.keep_logs();
        }
        let _ = builder.clean();
        builder.person().leave();
    }
}
