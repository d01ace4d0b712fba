//! Puts the sources of our kernel module into the binary, so that an installed plugstorm can build it for any kernel.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../guest/module");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
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
