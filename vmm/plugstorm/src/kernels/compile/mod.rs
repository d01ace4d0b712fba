//! `plugstorm kernel build`: compiles a kernel for guests, from Debian's source package or a folder of the user's, with
//! configuration fragments and patches. What comes of it is a kernel of the cache like one that was fetched.

mod check;
mod commit;
mod error;
mod expression;
mod folder;
mod fragment;
mod group;
mod kconfig;
mod keep;
mod mail;
mod make;
mod needs;
mod patch;
mod source;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::manifest::{self, Built, Manifest, PackageFile};
use super::{GuestKernel, kernel_folder, package, resolve_in};
use crate::cache::{self, CacheLock};
use check::Config;
use fragment::{Fragment, Value, Wish, Wishes};
use kconfig::Kconfig;
use make::Tree;
use patch::Series;

pub use error::BuildError;
#[cfg(test)]
pub(super) use fragment::FRAGMENTS;
pub use source::{KernelSource, SOURCE_MARKS};
pub use watch::BuildStep;
use watch::Watch;

/// Part of the key of what we build: raised when the way of building changes.
const RECIPE: u32 = 1;
/// Objects of a kernel by base.config, as long as none was built here.
const USUAL_OBJECTS: u32 = 1100;
/// A release has 64 characters at most (`__NEW_UTS_LEN`), and the version and the key want some of them.
const NAME_MAX: usize = 32;
/// Where it is compiled, below the folder for builds. Always the same: ccache knows objects by their paths.
const TREE: &str = "linux";
/// What the release of a commit's kernel has behind its version.
const VERSION_FILE: &str = "localversion-plugstorm";
/// All that make said, in the kernel's folder, and in `logs` of the cache for a build that failed.
const LOG: &str = "build.log";

/// What to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// Of what.
    pub source: KernelSource,
    /// Names of our fragments or files, in order; [`fragment::BASE`] comes before them.
    pub configs: Vec<String>,
    /// Leave out base.config.
    pub no_base: bool,
    /// Patch files, in order.
    pub patches: Vec<PathBuf>,
    /// Leave out our own patches, which a kernel with lockdep gets where they fit.
    pub no_fixups: bool,
    /// Objects compiled at a time.
    pub jobs: usize,
    /// Take Debian's source package from this folder instead of apt.
    pub packages: Option<PathBuf>,
    /// Go as far as comparing the configuration, and build nothing.
    pub check: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildOutcome {
    /// The kernel is in the cache.
    Kernel(Box<GuestKernel>),
    /// It could be built: the patches apply, and the configuration is what was asked for.
    Checked,
}

/// Builds the kernel `name` unless the cache has it of the very same source, patches, options and compiler. Ended at any
/// moment, by `interrupt` too, it leaves the cache as it was.
///
/// # Errors
/// [`BuildError`].
pub fn build_kernel(
    name: &str,
    options: &BuildOptions,
    interrupt: &AtomicBool,
    show: &mut dyn FnMut(BuildStep<'_>),
) -> Result<BuildOutcome, BuildError> {
    let root = cache::root();
    build_in(&root, name, options, &mut Watch::new(&root, interrupt, show)).map_err(|error| error.in_cache(&root))
}

fn build_in(
    root: &Path,
    name: &str,
    options: &BuildOptions,
    watch: &mut Watch<'_>,
) -> Result<BuildOutcome, BuildError> {
    fit(name)?;
    let mut fragments = if options.no_base { Vec::new() } else { vec![Fragment::load(fragment::BASE)?] };
    for config in &options.configs {
        fragments.push(Fragment::load(config)?);
    }
    let mut wishes = fragment::merge(&fragments);
    let series = patches(options, &wishes)?;
    needs::programs(matches!(options.source, KernelSource::Debian { .. }), &wishes)?;
    let compiler = needs::compiler()?;
    let ready = source::bring(&options.source, options.packages.as_deref(), root, watch)?;
    let key_of = |source: &PackageFile| key(source, &wishes, &series, &compiler);
    let is_there = |key: &str| !options.check && built_before(root, name).is_some_and(|built| built.key == key);
    // Before the lock, so that nobody waits for a build to be told that there is nothing to do; and after it.
    let looked_at = key_of(&ready.identity);
    if is_there(&looked_at) {
        return same(root, name, watch);
    }
    let interrupt = watch.interrupt;
    let lock = CacheLock::take_for_builds(root, interrupt, &mut |line| watch.line(line))?;
    if is_there(&looked_at) {
        drop(lock);
        return same(root, name, watch);
    }
    needs::space(root, ready.bytes, &wishes)?;
    let work = lock.workspace()?;
    let begun = Instant::now();
    let tree = Tree::new(&lock.scratch().join(TREE), root, options.jobs);
    // What is built is what was copied, and so is the key.
    let source = ready.unpack(&tree.folder, &work.path().join("unpacked"), watch)?;
    let key = key_of(&source);
    if key != looked_at && is_there(&key) {
        drop((tree, work, lock));
        return same(root, name, watch);
    }
    // The release tells it from every other kernel, so that no module of another one is loaded into it.
    let version = format!("-{name}-{}", key.get(..8).unwrap_or(&key));
    if matches!(options.source, KernelSource::Commit { .. }) {
        // One of many builds of nearly the same. Not as an option: each file is compiled with all options in sight, so that ccache would
        // have to preprocess it before it knew it again. This file reaches the release alone (scripts/setlocalversion).
        let file = tree.folder.join(VERSION_FILE);
        fs::write(&file, version + "\n").map_err(BuildError::io("cannot write", &file))?;
    } else {
        let value = Value::Set(format!("\"{version}\""));
        wishes.entry("LOCALVERSION".into()).or_insert_with(|| Wish { value, by: "plugstorm".into() });
    }
    let recipe = Recipe { root, name, options, wishes: &wishes, series: &series, source };
    let prepared = recipe.prepare(&tree, work.path(), watch)?;
    if options.check {
        let (applied, options) = (prepared.patches.len(), wishes.len());
        watch.line(&format!("patch files that apply: {applied}; all {options} options are as they were asked for"));
        return Ok(BuildOutcome::Checked);
    }
    let objects = tree.compile(expected(root, name), watch)?;
    let seconds = begun.elapsed().as_secs();
    let built = Built {
        key,
        source: options.source.to_string(),
        fragments: fragments.into_iter().map(|fragment| fragment.name).collect(),
        patches: prepared.patches.iter().map(|series| series.name.clone()).collect(),
        compiler,
        objects,
        seconds,
        notes: prepared.notes.clone(),
    };
    recipe.publish(&tree, &prepared, built, work.path(), watch)?;
    let mib = Manifest::read(&kernel_folder(root, name)).map_or(0, |manifest| manifest.bytes >> 20);
    watch.line(&format!("{name}: {objects} objects compiled in {} min {} s, {mib} MiB", seconds / 60, seconds % 60));
    // Who waits for the lock would sweep the tree, or meet what we are removing.
    drop(tree);
    drop((work, lock));
    finish(root, name, watch)
}

/// How the kernel of this name that is in the cache was built, if it was.
fn built_before(root: &Path, name: &str) -> Option<Built> {
    Manifest::read(&kernel_folder(root, name)).ok()?.built
}

/// Our own patches, which a kernel with lockdep gets where they fit: their files' names and texts.
pub fn own_patches() -> impl Iterator<Item = (String, &'static str)> {
    fragment::FIXUPS.iter().map(|(name, text)| (format!("{name}.patch"), *text))
}

fn same(root: &Path, name: &str, watch: &mut Watch<'_>) -> Result<BuildOutcome, BuildError> {
    for note in built_before(root, name).into_iter().flat_map(|built| built.notes) {
        watch.line(&note);
    }
    watch.line(&format!("{name} was built of the same before"));
    finish(root, name, watch)
}

fn finish(root: &Path, name: &str, watch: &mut Watch<'_>) -> Result<BuildOutcome, BuildError> {
    let folder = kernel_folder(root, name);
    let manifest = Manifest::read(&folder)?;
    watch.line(&format!("{name} is {}, in {}", manifest.release, folder.display()));
    // Builds our module for it too. A source too new or too old for that makes a note of it, and is a kernel all the same.
    let interrupt = watch.interrupt;
    let kernel = resolve_in(root, name, interrupt, &mut |line| watch.line(line))?;
    watch.check().map_err(|_| BuildError::InterruptedAfter { name: name.into() })?;
    Ok(BuildOutcome::Kernel(Box::new(kernel)))
}

/// Fails for a name that is not to be a folder's, a release's, and no fetched kernel's.
fn fit(name: &str) -> Result<(), BuildError> {
    let fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let reason = if name.is_empty() || name.len() > NAME_MAX {
        "it wants 1 to 32 characters"
    } else if !name.bytes().all(fit) || !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        "it takes small letters, digits, dots, hyphens and underscores, with a letter or digit first"
    } else if package::Wanted::parse(name).is_some() {
        "names like debian-6.12 are of kernels that `plugstorm kernel fetch` brings"
    } else {
        return Ok(());
    };
    Err(BuildError::Name { name: name.into(), reason })
}

/// The patches: the user's, and ours for a kernel whose locks are watched. Ours come first on Debian's source, for which they were
/// made; on the user's they give way.
fn patches(options: &BuildOptions, wishes: &Wishes) -> Result<Vec<Series>, BuildError> {
    let has_lockdep = wishes.get("PROVE_LOCKING").is_some_and(|wish| wish.value != Value::Off);
    let wants_ours = has_lockdep && !options.no_fixups;
    let ours = if wants_ours { Series::fixups(&options.source)? } else { Vec::new() };
    let theirs = options.patches.iter().map(|path| Series::load(path)).collect::<Result<Vec<_>, _>>()?;
    let is_debians = matches!(options.source, KernelSource::Debian { .. });
    Ok(if is_debians { [ours, theirs] } else { [theirs, ours] }.concat())
}

/// What a build depends on, as a name for it.
fn key(source: &PackageFile, wishes: &Wishes, series: &[Series], compiler: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(RECIPE.to_le_bytes());
    let mut part = |bytes: &[u8]| {
        // Lengths keep the parts apart.
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(source.sha256.as_bytes());
    part(fragment::text(wishes).as_bytes());
    part(compiler.as_bytes());
    for series in series {
        part(&series.content);
        if series.is_optional {
            part(b"where it fits");
        }
    }
    manifest::hex(hash.finalize().get(..8).unwrap_or_default())
}

/// About how many objects there will be: as many as last time.
fn expected(root: &Path, name: &str) -> u32 {
    let last = built_before(root, name).map(|built| built.objects);
    let others = || super::cached(root).ok()?.into_iter().find_map(|(_, manifest)| Some(manifest.built?.objects));
    last.or_else(others).unwrap_or(USUAL_OBJECTS)
}

/// A tree that is ready to be compiled.
struct Prepared<'a> {
    config: Config,
    /// What the user is to know of it.
    notes: Vec<String>,
    /// What was applied.
    patches: Vec<&'a Series>,
}

/// A build under way.
struct Recipe<'a> {
    root: &'a Path,
    name: &'a str,
    options: &'a BuildOptions,
    wishes: &'a Wishes,
    series: &'a [Series],
    /// What was copied.
    source: PackageFile,
}

impl<'a> Recipe<'a> {
    /// Patches and configuration: all that can be wrong before it takes long.
    fn prepare(&self, tree: &Tree, work: &Path, watch: &mut Watch<'_>) -> Result<Prepared<'a>, BuildError> {
        let logs = self.root.join("logs");
        fs::create_dir_all(&logs).map_err(BuildError::io("cannot make", &logs))?;
        watch.log_to(&self.log())?;
        let source_name = self.options.source.to_string();
        let folder = &tree.folder;
        if matches!(self.options.source, KernelSource::Folder(_)) {
            tree.clean(watch)?;
        }
        let (mut notes, mut patches) = (Vec::new(), Vec::new());
        for series in self.series {
            let note = if let Some(why) = series.left_out(folder, &source_name)? {
                format!("our patch {} is left out: {why}", series.title())
            } else {
                series.apply(folder, &source_name, watch)?;
                patches.push(series);
                let count = series.len();
                format!("{} applied ({count} patch{})", series.name, if count == 1 { "" } else { "es" })
            };
            watch.line(&note);
            notes.push(note);
        }
        let wishes = work.join("wishes.config");
        fs::write(&wishes, fragment::text(self.wishes)).map_err(BuildError::io("cannot write", &wishes))?;
        tree.configure(&wishes, watch)?;
        let config = folder.join(".config");
        let config = fs::read_to_string(&config).map_err(BuildError::io("cannot read", &config))?;
        let config = check::read(&config);
        watch.now("comparing the configuration with what was asked for");
        let (unmet, unknown) = check::compare(self.wishes, &config, &Kconfig::read(folder));
        for note in unknown {
            watch.line(&note);
            notes.push(note);
        }
        if !unmet.is_empty() {
            return Err(BuildError::Options(unmet));
        }
        needs::headers(&config)?;
        if !tree.has_ccache() {
            watch.line("there is no ccache: a build that is interrupted or repeated compiles everything again");
        }
        Ok(Prepared { config, notes, patches })
    }

    fn publish(
        &self,
        tree: &Tree,
        prepared: &Prepared<'_>,
        built: Built,
        work: &Path,
        watch: &mut Watch<'_>,
    ) -> Result<(), BuildError> {
        let folder = &tree.folder;
        let out = work.join("out");
        watch.check()?;
        watch.now("keeping image, modules and headers");
        fs::create_dir(&out).map_err(BuildError::io("cannot make", &out))?;
        let release = folder.join("include/config/kernel.release");
        let release = fs::read_to_string(&release).map_err(BuildError::io("cannot read", &release))?;
        let kept = keep::keep(folder, &out, &prepared.config)?;
        let log = out.join(LOG);
        fs::rename(self.log(), &log).map_err(BuildError::io("cannot keep", &log))?;
        let fragments = PackageFile { file: "config".into(), sha256: manifest::sha256(&out.join("config"))?.0 };
        let patches = prepared.patches.iter().map(|series| PackageFile {
            file: series.name.clone(),
            sha256: manifest::hex(&Sha256::digest(&series.content)),
        });
        let manifest = Manifest {
            version: manifest::VERSION,
            name: self.name.into(),
            release: release.trim().into(),
            packages: [self.source.clone(), fragments].into_iter().chain(patches).collect(),
            image: kept.image,
            modules: kept.modules,
            headers: kept.headers,
            bytes: super::fetch::folder_bytes(&out),
            built: Some(built),
        };
        manifest.write(&out)?;
        // The lock of builds is ours since the beginning; this one is short, for storms want it too.
        let interrupt = watch.interrupt;
        let lock = CacheLock::take_unless(self.root, interrupt, &mut |line| watch.line(line))?;
        Ok(lock.publish(&out, &kernel_folder(self.root, self.name))?)
    }

    fn log(&self) -> PathBuf {
        self.root.join("logs").join(format!("kernel-{}.log", self.name))
    }
}

#[cfg(test)]
mod tests;
