//! Console bytes in, kernel reports out.
//!
//! Titles follow the conventions of syzkaller, so that they can be compared with what is publicly known. The rules are our
//! own.
//!
//! [`line`] cuts the stream and takes prefixes off; [`rules`] is the table of what a kernel prints; [`frames`] reads
//! stacks; [`guilty`] picks the frame that matters, by the tables of [`passed_over`]; [`block`] holds one report until it is
//! over and [`reading`] says what it means; [`detector`] says which lines are whose; [`impossible`] knows reports that are
//! not about the kernel.

mod block;
mod detector;
mod frames;
mod guilty;
mod impossible;
pub(crate) mod line;
mod passed_over;
mod reading;
mod report;
mod rules;
mod title;

pub use detector::Detector;
pub use impossible::interrupted_while_off;
pub use report::{Splat, SplatKind};

/// The most text a report keeps.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// All reports in a saved log, in the order in which they began.
#[must_use]
pub fn detect(bytes: &[u8]) -> Vec<Splat> {
    let mut splats = Vec::new();
    let mut detector = Detector::for_log();
    detector.push(bytes, |splat| splats.push(splat));
    detector.finish(|splat| splats.push(splat));
    spread_panics(&mut splats);
    splats
}

/// A panic is printed once, and may be over a report that began long before: "blocked tasks" comes after the last of many.
/// Marks all reports as panicked that came before one that is, since the kernel was started. Wants them in the order in
/// which they began, as the detector gives them.
pub fn spread_panics(splats: &mut [Splat]) {
    let mut panicked = false;
    for splat in splats.iter_mut().rev() {
        if splat.kind == SplatKind::Reboot {
            panicked = false;
        }
        splat.panicked |= panicked;
        panicked |= splat.panicked;
    }
}

/// The function's name in `f.isra.0+0x1/0x2`.
fn name_of_place(place: &str) -> Option<String> {
    crate::symbol::Symbol::parse(place).map(|symbol| symbol.name)
}
