//! Progress of what takes longer than a second.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that appears after a second, on a terminal only.
pub(crate) fn progress(files: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(files as u64), ProgressDrawTarget::hidden());
    if !std::io::stderr().is_terminal() || super::is_quiet() {
        return bar;
    }
    if let Ok(style) = ProgressStyle::with_template("reading {pos}/{len} files {wide_msg}") {
        bar.set_style(style);
    }
    let late = bar.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        if !late.is_finished() {
            late.set_draw_target(ProgressDrawTarget::stderr());
            late.enable_steady_tick(Duration::from_millis(250));
        }
    });
    bar
}
