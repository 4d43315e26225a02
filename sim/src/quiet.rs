//! Broken promises panic; those that are looked for should not print.
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs it; a panic is returned as its message and printed nowhere.
///
/// # Errors
///
/// It panicked.
pub(crate) fn quietly<T>(work: AssertUnwindSafe<impl FnOnce() -> T>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let outcome = catch_unwind(work);
    QUIET.set(false);
    outcome.map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let fixed = || payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(fixed).unwrap_or_else(|| "a panic without a message".to_owned())
    })
}
