//! Finding the commit that brought a finding, where the finding does not come in every run.
//!
//! At the bad commit it is measured how often it comes. From the lower end of that rate's interval follows how many runs without
//! it make a commit good (`rate.rs`). The good commit has to pass as many; then git chooses the commits (`history.rs`), each of
//! which is built and stormed until it is bad by its first hit, good by so many runs, or has to be skipped (`drive.rs`). A run that
//! proves nothing counts for neither (`came.rs`).
//!
//! All of it is in `bisect.json` as it comes (`folder.rs`), and whatever ends a bisection, it goes on from there. How kernels are
//! built and runs carried out is the command line's ([`Prober`]).

mod came;
mod drive;
mod error;
mod folder;
mod history;
mod model;
mod probe;
mod rate;
mod report;
mod tree;

pub use came::{Came, Counts, MOST_VAIN, Met, Ran, Target, counts};
pub use drive::{Halt, drive};
pub use error::{TreeError, Unfit};
pub use folder::{BisectFolder, FolderError};
pub use history::{GitHistory, History, Next, Remaining};
pub use model::{Bisection, Commit, Header, Ingredient, Outcome, Step, VERSION, Verdict};
pub use probe::{Built, Errand, Keeper, Prober, Taker, Watcher};
pub use rate::{MOST_RUNS, Plan, needed};
pub use report::{last_words, log_text, run_line, step_line, what_is_left};
pub use tree::{Ends, ends};

#[cfg(test)]
mod tests;
