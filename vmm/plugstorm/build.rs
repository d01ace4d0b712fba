//! Puts the sources of our kernel module into the binary, so that an installed plugstorm can build it for any kernel; the
//! configuration fragments and patches that kernels are built with; and a name for what decides whether a saved machine can be understood.

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
    module_sources(&top.join("guest/module"))?;
    kernel_files(&top.join("guest/kernel"))?;
    println!("cargo::rustc-env=PLUGSTORM_BUILD={}-{}", env::var("CARGO_PKG_VERSION")?, meaning(&top)?);
    Ok(())
}

fn module_sources(folder: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_source = name.ends_with(".h") || name.ends_with(".c") && !name.ends_with(".mod.c");
        if entry.file_type()?.is_file() && (is_source || name == "Makefile" || name == "Kbuild") {
            names.push(name);
        }
    }
    names.sort();
    let mut list = String::from("pub(super) static SOURCES: &[(&str, &str)] = &[\n");
    for name in names {
        let path = folder.join(&name).canonicalize()?;
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(list, "    ({name:?}, include_str!({:?})),", path.display().to_string())?;
    }
    list.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("module_sources.rs"), list)?;
    Ok(())
}

/// Fragments and patches by their names without suffix: adding one is adding its file.
fn kernel_files(folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    for (list, below, suffix) in [("FRAGMENTS", "", ".config"), ("FIXUPS", "patches", ".patch")] {
        let folder = folder.join(below).canonicalize()?;
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(suffix).map(str::to_owned));
        }
        names.sort();
        writeln!(text, "pub(super) static {list}: &[(&str, &str)] = &[")?;
        for name in names {
            let path = folder.join(format!("{name}{suffix}")).display().to_string();
            println!("cargo::rerun-if-changed={path}");
            writeln!(text, "    ({name:?}, include_str!({path:?})),")?;
        }
        text.push_str("];\n");
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("kernel_files.rs"), text)?;
    Ok(())
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
