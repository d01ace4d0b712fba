//! The line table of a unit, and the names of its files.

use gimli::{AttributeValue, UnitRef};

use super::dwarf::Reader;
use super::paths;

/// The longest name that is kept: `PATH_MAX`.
const MAX_TEXT_BYTES: usize = 4096;

/// File and line of an address. A line of 0 is the compiler's word for "of no line", and none.
pub(super) fn find(
    unit: UnitRef<'_, Reader<'_>>,
    address: u64,
) -> gimli::Result<Option<(Option<String>, Option<u64>)>> {
    let Some(program) = unit.line_program.clone() else { return Ok(None) };
    let mut rows = program.rows();
    // Each row goes up to the next one. Of several for one address the last counts. There are no more rows than the
    // table has bytes.
    let mut last: Option<(u64, u64, Option<u64>)> = None;
    while let Some((_, row)) = rows.next_row()? {
        if let Some((begin, number, line)) = last
            && (begin..row.address()).contains(&address)
        {
            return Ok(Some((file(unit, number), line)));
        }
        let this = (row.address(), row.file_index(), row.line().map(std::num::NonZeroU64::get));
        last = (!row.end_sequence()).then_some(this);
    }
    Ok(None)
}

/// The path of a file by its number, as far as the unit has it.
pub(super) fn file<'d>(unit: UnitRef<'_, Reader<'d>>, number: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let file = header.file(number)?;
    let string = |value: AttributeValue<Reader<'d>>| unit.attr_string(value).ok().map(|reader| text(&reader));
    let mut path = unit.comp_dir.map(|reader| text(&reader)).unwrap_or_default();
    if let Some(folder) = file.directory(header).and_then(string) {
        path = paths::join(&path, &folder);
    }
    Some(paths::join(&path, &string(file.path_name())?))
}

/// A text of the file's, fit to be shown: whole characters, none that a terminal would obey.
pub(super) fn text(reader: &Reader<'_>) -> String {
    let bytes = reader.slice();
    let bytes = bytes.get(..MAX_TEXT_BYTES).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Narrows `common` to the folder that it has in common with a unit's own file, if that one is named from the root and is not
/// below the folder that it was compiled in: the sources of a module that is not of the kernel's tree.
pub(super) fn common_folder(common: &mut Option<String>, name: &str, compiled_in: Option<&str>) {
    // Made by kbuild, and compiled with the kernel's own: scripts/module-common.c.
    let is_made = name.ends_with(".mod.c") || name.ends_with("/scripts/module-common.c");
    let is_inside = compiled_in.is_some_and(|folder| paths::below(name, folder).is_some());
    if !name.starts_with('/') || is_made || is_inside {
        return;
    }
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    match common {
        None => *common = Some(folder.to_owned()),
        Some(common) => {
            while !common.is_empty() && paths::below(name, common).is_none() {
                common.truncate(common.rfind('/').unwrap_or(0));
            }
        }
    }
}
