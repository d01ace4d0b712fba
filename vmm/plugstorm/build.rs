//! Puts into the binary what an installed plugstorm needs of the repository: the sources of our kernel module, so that it can be
//! built for any kernel; the laboratory's scenarios; configuration fragments and patches that kernels are built with. And a name
//! for what decides whether a saved machine can be understood.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use twox_hash::XxHash3_128;

/// What gives a snapshot its meaning, from the repository's top: the machine's saved state, the messages to the agent in
/// it, and the crates that both are written with. The command line's code is not among them.
const MEANING: [&str; 3] = ["vmm/machine/src", "guest/wire/src", "Cargo.lock"];

fn main() -> Result<(), Box<dyn Error>> {
    let top = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let (module, kernel, lab) =
        (top.join("guest/module"), top.join("guest/kernel"), top.join("fixtures/scenarios/lab"));
    embed("module_sources.rs", &[("SOURCES", &module, module_source)])?;
    embed(
        "lab_scenarios.rs",
        &[("SCENARIOS", &lab, |name| name.strip_suffix(".toml").filter(|name| !name.starts_with("expected")))],
    )?;
    let fragments: Embedded<'_> = ("FRAGMENTS", &kernel, |name| name.strip_suffix(".config"));
    let fixups: Embedded<'_> = ("FIXUPS", &kernel.join("patches"), |name| name.strip_suffix(".patch"));
    embed("kernel_files.rs", &[fragments, fixups])?;
    println!("cargo::rustc-env=PLUGSTORM_BUILD={}-{}", env::var("CARGO_PKG_VERSION")?, meaning(&top)?);
    Ok(())
}

/// A list's name in the binary, the folder its files are in, and what a file is called in it; nothing if it does not belong there.
type Embedded<'a> = (&'a str, &'a Path, fn(&str) -> Option<&str>);

/// Writes the lists, of names and texts, for the binary to include: adding a file to the repository adds it to its list.
fn embed(file: &str, lists: &[Embedded<'_>]) -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    for (list, folder, called) in lists {
        let folder = folder.canonicalize()?;
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        writeln!(text, "pub(crate) static {list}: &[(&str, &str)] = &[")?;
        for name in &names {
            let Some(called) = called(name) else { continue };
            let path = folder.join(name).display().to_string();
            println!("cargo::rerun-if-changed={path}");
            writeln!(text, "    ({called:?}, include_str!({path:?})),")?;
        }
        text.push_str("];\n");
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join(file), text)?;
    Ok(())
}

/// What kbuild leaves beside the sources is none.
fn module_source(name: &str) -> Option<&str> {
    let is_source = name.ends_with(".h") || name.ends_with(".c") && !name.ends_with(".mod.c");
    (is_source || name == "Makefile" || name == "Kbuild").then_some(name)
}

/// A digest of [`MEANING`] and the compiler, in hexadecimal.
fn meaning(top: &Path) -> Result<String, Box<dyn Error>> {
    let mut files = Vec::new();
    for path in MEANING {
        // Of a folder, cargo looks at all that is in it.
        println!("cargo::rerun-if-changed={}", top.join(path).display());
        collect(top, Path::new(path), &mut files)?;
    }
    files.sort();
    let mut hasher = XxHash3_128::new();
    // Lengths keep the parts apart.
    let mut part = |bytes: &[u8]| {
        hasher.write(&(bytes.len() as u64).to_le_bytes());
        hasher.write(bytes);
    };
    // Cargo runs this again when the compiler is another one.
    part(&Command::new(env::var_os("RUSTC").ok_or("RUSTC is not set")?).arg("--version").output()?.stdout);
    for file in files {
        part(file.as_os_str().as_encoded_bytes());
        part(&fs::read(top.join(&file))?);
    }
    Ok(format!("{:032x}", hasher.finish_128()).split_at(16).0.to_owned())
}

/// The source files at or below `path`.
fn collect(top: &Path, path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    if !top.join(path).is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(top.join(path))? {
        let entry = entry?;
        let below = path.join(entry.file_name());
        // What editors leave beside them is no source.
        if entry.file_type()?.is_dir() || below.extension() == Some(OsStr::new("rs")) {
            collect(top, &below, files)?;
        }
    }
    Ok(())
}
