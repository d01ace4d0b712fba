//! Words for the user. Whoever reads them may have gone; that is no reason to fail.

use std::io::{IsTerminal, Write};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

/// Writes to standard output.
pub(super) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Writes a document to standard output: half of one is an error.
///
/// # Errors
/// The system's, but for a reader who has gone.
pub(super) fn document(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes to standard error.
pub(super) fn err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// A line on what takes a while.
pub(super) fn progress(line: &str) {
    err(&format!("{line}\n"));
}

/// Shows what is wrong with a file, at its place.
pub(super) fn diagnostic(error: &dyn Diagnostic) {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    let rendered = GraphicalReportHandler::new_themed(theme).with_width(110).render_report(&mut text, error);
    match rendered {
        Ok(()) => err(&text),
        Err(_) => err(&format!("plugstorm: {error}\n")),
    }
}
