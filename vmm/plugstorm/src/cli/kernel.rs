//! `plugstorm kernel`: what is in the cache, and getting more into it.

use super::{Failure, KernelCommand, build, show};
use crate::kernels::{self, FetchOptions, KernelError};
use crate::verdict::EXIT_CLEAN;

pub(super) fn main(command: KernelCommand) -> Result<u8, Failure> {
    match command {
        KernelCommand::List { json } => list(json),
        KernelCommand::Fetch { name, from } => fetch(&name, &FetchOptions { packages: from }),
        KernelCommand::Build(args) => build::main(&args),
    }
}

fn list(json: bool) -> Result<u8, Failure> {
    let kernels = kernels::list().map_err(|error| Failure::machine(&error))?;
    if json {
        show::out(&(serde_json::to_string_pretty(&kernels).map_err(|error| Failure::machine(&error))? + "\n"));
    } else if kernels.is_empty() {
        show::out("no kernels in the cache; `plugstorm kernel fetch debian-6.12` gets one\n");
    }
    for kernel in kernels.iter().filter(|_| !json) {
        let built = kernel.built.as_ref().map(|built| format!("  {built}")).unwrap_or_default();
        show::out(&format!(
            "{:<16} {:<28} {:>5} MiB  {}{built}\n",
            kernel.name,
            kernel.release,
            kernel.bytes >> 20,
            kernel.folder.display()
        ));
    }
    Ok(EXIT_CLEAN)
}

fn fetch(name: &str, options: &FetchOptions) -> Result<u8, Failure> {
    let kernel = kernels::fetch(name, options, &mut show::progress).map_err(|error| match error {
        KernelError::UnknownName { .. } => Failure::user(&error),
        _ => Failure::machine(&error),
    })?;
    for note in &kernel.notes {
        show::err(&format!("note: {note}\n"));
    }
    show::out(&format!("{} is in the cache: {}\n", kernel.name, kernel.image.display()));
    Ok(EXIT_CLEAN)
}
