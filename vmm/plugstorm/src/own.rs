//! What a scenario's author brings along, read and checked before anything boots: modules fit the kernel, files are there, and
//! programs can be run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};
use plugstorm_wire::{AGENT_PATH, AGENT_WRITES};

use crate::initramfs::{ExtraFile, module_name};
use crate::kernels::{GPIO_MODULE, GuestKernel, ModInfo, canonical};
use crate::scenario::{GuestFile, Mistake, Mistakes, ModuleFile, Scenario, ScenarioError, Work};

/// A file that is put into a guest, at most, in bytes.
const MOST_FILE_BYTES: u64 = 64 << 20;
/// All of them, in bytes.
const MOST_BYTES: u64 = 256 << 20;
/// How compressed modules begin: xz, zstd, gzip.
const COMPRESSED: [(&[u8], &str); 3] =
    [(b"\xfd7zXZ\0", "xz -dk"), (b"\x28\xb5\x2f\xfd", "zstd -dk"), (b"\x1f\x8b", "gzip -dk")];

/// What goes into a guest beside the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parcel {
    /// All modules, the kernel's own too, in the order in which they are loaded.
    pub modules: Vec<PathBuf>,
    /// Other files; and what was read, and checked, of the modules that the scenario names.
    pub extra: Vec<ExtraFile>,
}

/// Reads what a scenario names, for a guest of this kernel. `file` is the scenario's own: paths are relative to it.
///
/// # Errors
/// What is wrong with each, shown at its place.
pub fn pack(scenario: &Scenario, file: &Path, kernel: &GuestKernel) -> Result<Parcel, ScenarioError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut mistakes = Vec::new();
    let mut read = Reader { folder, left: MOST_BYTES };
    let own = modules(&scenario.guest.modules, &mut read, kernel, &mut mistakes);
    let paths: Vec<PathBuf> = scenario.guest.modules.iter().map(|module| folder.join(&module.file)).collect();
    let modules = order(&kernel.modules, &paths);
    let mut extra = beside(&scenario.guest.modules, own, &modules, &paths);
    let mut contents = BTreeMap::new();
    for file in &scenario.guest.files {
        match read.whole(&file.from) {
            Ok(content) => drop(contents.insert(file.to.as_str(), (file, content))),
            Err(why) => {
                mistakes.push(Mistake::new(file.span.clone(), why, "name a file, relative to the scenario's own"));
            }
        }
    }
    // Of a file that is missing enough has been said.
    if mistakes.is_empty() {
        mistakes.extend(programs(scenario).filter_map(|(program, span)| {
            let (message, help) = cannot_run(program, &contents)?;
            Some(Mistake::new(span, message, help))
        }));
    }
    if !mistakes.is_empty() {
        let text = fs::read_to_string(file).unwrap_or_default();
        return Err(Mistakes::new(&file.display().to_string(), &text, mistakes).into());
    }
    extra.extend(contents.into_iter().map(|(to, (file, content))| ExtraFile {
        path: to.trim_start_matches('/').to_owned(),
        mode: file.mode,
        content,
    }));
    Ok(Parcel { modules, extra })
}

/// The files that a scenario names, where they are.
#[must_use]
pub fn sources(scenario: &Scenario, file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let modules = scenario.guest.modules.iter().map(|module| &module.file);
    modules.chain(scenario.guest.files.iter().map(|file| &file.from)).map(|path| folder.join(path)).collect()
}

/// Reads files within bounds.
#[derive(Debug)]
struct Reader<'a> {
    folder: &'a Path,
    /// What may still be read, in bytes.
    left: u64,
}

impl Reader<'_> {
    /// A file; or why it cannot be had.
    fn whole(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let path = self.folder.join(name);
        let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
        // First: to open a pipe or a device may wait, or do something.
        if !fs::metadata(&path).map_err(failed)?.is_file() {
            return Err(format!("{} is no file", path.display()));
        }
        let most = MOST_FILE_BYTES.min(self.left);
        let mut content = Vec::new();
        // Bounded also if it grows meanwhile.
        File::open(&path).and_then(|file| file.take(most + 1).read_to_end(&mut content)).map_err(failed)?;
        let length = content.len() as u64;
        if length > MOST_FILE_BYTES {
            return Err(format!("{} is larger than {} MiB", path.display(), MOST_FILE_BYTES >> 20));
        }
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            format!("with {} the files for the guest are more than {} MiB", path.display(), MOST_BYTES >> 20)
        })?;
        Ok(content)
    }
}

/// What is in each module; a mistake for each that this kernel would not take.
fn modules(
    own: &[ModuleFile],
    read: &mut Reader<'_>,
    kernel: &GuestKernel,
    mistakes: &mut Vec<Mistake>,
) -> Vec<Vec<u8>> {
    if own.is_empty() {
        return Vec::new();
    }
    let mut contents = Vec::new();
    let wanted = wanted_vermagic(kernel);
    for module in own {
        let content = read.whole(&module.file);
        let wrong = match &content {
            Ok(content) => misfit(content, &module.file, wanted.as_deref(), kernel),
            Err(why) => Some((why.clone(), "name a module's file, relative to the scenario's own".to_owned())),
        };
        contents.push(content.unwrap_or_default());
        mistakes.extend(wrong.map(|(why, help)| Mistake::new(module.span.clone(), why, help)));
    }
    contents
}

/// What modules of this kernel say of it: as one of them does that goes with it, or its release alone.
fn wanted_vermagic(kernel: &GuestKernel) -> Option<String> {
    let of_module = |path: &PathBuf| ModInfo::read(&fs::read(path).ok()?)?.vermagic;
    let release = kernel.release.as_deref()?;
    let fits = |vermagic: &String| vermagic.split_whitespace().next() == Some(release);
    kernel.modules.iter().find_map(of_module).filter(fits).or_else(|| Some(release.to_owned()))
}

/// Why a kernel would not take a module, and the way out; nothing if it would, as far as can be told.
fn misfit(content: &[u8], file: &str, wanted: Option<&str>, kernel: &GuestKernel) -> Option<(String, String)> {
    let Some(info) = ModInfo::read(content) else {
        if let Some((_, unpack)) = COMPRESSED.iter().find(|(magic, _)| content.starts_with(magic)) {
            return Some((format!("`{file}` is compressed"), format!("unpack it: `{unpack} {file}`")));
        }
        return Some((format!("`{file}` is no kernel module"), "name a .ko file as a kernel's build makes it".into()));
    };
    let vermagic = info.vermagic.unwrap_or_default();
    let (wanted, release) = (wanted?, info.release.unwrap_or_default());
    // Where nothing is known of the kernel but its release, that has to do.
    let fits = if wanted.contains(' ') { vermagic == wanted } else { release == wanted };
    if fits {
        return None;
    }
    let message = format!("`{file}` was built for another kernel: for `{vermagic}`, and {} is `{wanted}`", kernel.name);
    let help = format!(
        "build it against the headers of {}, or choose its kernel with `kernel` or --kernel",
        kernel.release.as_deref().unwrap_or(&kernel.name)
    );
    Some((message, help))
}

/// The order in which modules are loaded: the kernel's own, then the user's, then the kernel's virtio-gpio driver, which takes
/// every device that nobody before it takes. One of the user's takes the place of the kernel's own of that name.
fn order(kernel: &[PathBuf], own: &[PathBuf]) -> Vec<PathBuf> {
    if own.is_empty() {
        return kernel.to_vec();
    }
    let stays = |path: &&PathBuf| !own.iter().any(|own| name_of(own) == name_of(path));
    let (last, first): (Vec<_>, Vec<_>) = kernel.iter().filter(stays).partition(|path| name_of(path) == GPIO_MODULE);
    first.into_iter().chain(own).chain(last).cloned().collect()
}

/// A module's name, by its file's.
fn name_of(path: &Path) -> String {
    canonical(&path.file_stem().unwrap_or_default().to_string_lossy())
}

/// What was read of each module of the user's, in its place: a build may put another file there meanwhile. Beside it a file
/// with options, also where there are none: by this the agent knows it.
fn beside(own: &[ModuleFile], contents: Vec<Vec<u8>>, modules: &[PathBuf], paths: &[PathBuf]) -> Vec<ExtraFile> {
    let mut extra = Vec::new();
    for ((module, content), path) in own.iter().zip(contents).zip(paths) {
        let Some(index) = modules.iter().position(|loaded| loaded == path) else { continue };
        let name = module_name(index, path);
        let options = format!("{}.options", name.strip_suffix(".ko").unwrap_or(&name));
        extra.push(ExtraFile { path: name, mode: 0o644, content });
        extra.push(ExtraFile { path: options, mode: 0o644, content: module.options.clone().into_bytes() });
    }
    extra
}

/// The programs of steps and hammers, with their places.
fn programs(scenario: &Scenario) -> impl Iterator<Item = (&[String], std::ops::Range<usize>)> {
    let of_hammers = scenario.hammers.iter().filter_map(|hammer| match &hammer.work {
        Work::Program { program, span } => Some((program, span)),
        _ => None,
    });
    let of_steps = scenario.programs.iter().map(|program| (&program.program, &program.span));
    of_hammers.chain(of_steps).map(|(program, span)| (program.as_slice(), span.clone()))
}

/// Why a program cannot be run in the guest, and the way out; nothing if it can.
fn cannot_run(program: &[String], files: &BTreeMap<&str, (&GuestFile, Vec<u8>)>) -> Option<(String, String)> {
    let path = program.first().map_or("", String::as_str);
    if path == AGENT_PATH {
        let is_right = program.len() == 4 && program.get(1).is_some_and(|word| word == AGENT_WRITES);
        let (message, help) = (
            "the agent as a program can write to a file, and nothing else",
            "program = [\"/init\", \"write\", \"/sys/…\", \"text\"]",
        );
        return (!is_right).then(|| (message.into(), help.into()));
    }
    let Some((file, content)) = files.get(path) else {
        return Some((
            format!("there is no `{path}` in the guest: it has the agent, modules, and the files of the scenario"),
            format!("add [[guest.file]] with from = \"…\" and to = \"{path}\""),
        ));
    };
    if file.mode & 0o111 == 0 {
        let message = format!("`{path}` may not be run: its `mode` is {:#o}", file.mode);
        return Some((message, "leave `mode` out, or give 0o755".into()));
    }
    match interpreter(content) {
        Ok(None) => None,
        Ok(Some(other)) if files.contains_key(other.as_str()) => None,
        Ok(Some(other)) => Some((
            format!("`{path}` needs `{other}` to run, and that is not in the guest"),
            "link the program statically (-static), or add what it needs as [[guest.file]] too".into(),
        )),
        Err(why) => Some((format!("`{path}` is no program: {why}"), "name an x86-64 ELF file, or a script".into())),
    }
}

/// What a program needs to be run: a dynamic linker, or a script's interpreter.
fn interpreter(content: &[u8]) -> Result<Option<String>, &'static str> {
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
    if let Some(script) = content.strip_prefix(b"#!") {
        let line = script.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
        return Ok(line.split(u8::is_ascii_whitespace).next().and_then(text));
    }
    let header =
        elf::FileHeader64::<Endianness>::parse(content).map_err(|_| "it is no 64-bit ELF file and no script")?;
    let endian = header.endian().map_err(|_| "it is no 64-bit ELF file and no script")?;
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err("it is for another processor");
    }
    let segments = header.program_headers(endian, content).map_err(|_| "it is cut short")?;
    let found = segments.iter().find_map(|segment| segment.interpreter(endian, content).transpose());
    found.transpose().map(|found| found.and_then(text)).map_err(|_| "it is cut short")
}

#[cfg(test)]
mod tests;
