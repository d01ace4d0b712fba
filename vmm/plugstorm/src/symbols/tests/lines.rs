//! Where places are in the source.

use std::path::Path;

use super::*;

#[test]
fn a_place_of_the_kernel_has_file_and_line_and_what_is_inlined() {
    for debug in [&["-g"][..], &["-gdwarf-4"], &["-g", "-gz=zlib"], &["-g", "-gno-column-info", "-O1"]] {
        let built = Built::new(debug);
        let symbolizer = built.symbolizer();
        let all = all_of(&symbolizer, "gpiochip_remove", None, 32);
        let inlined = [
            "touch (include/linux/gpio.h:3) inlined",
            "through (drivers/gpio/one.c:8) inlined",
            "gpiochip_remove (drivers/gpio/one.c:12)",
        ];
        assert!(all.iter().any(|lines| *lines == inlined), "{debug:?}: {all:#?}");
        assert!(all.iter().any(|lines| *lines == ["gpiochip_remove (drivers/gpio/one.c:13)"]), "{debug:?}: {all:#?}");
        assert_eq!(symbolizer.notes(), [""; 0]);
    }
}

#[test]
fn a_module_has_its_relocations_applied() {
    for debug in [&["-g"][..], &["-gdwarf-4"], &["-g", "-gz=zlib"]] {
        let built = Built::new(debug);
        let symbolizer = built.symbolizer();
        let all = all_of(&symbolizer, "fake_remove", Some("gpio_fake"), 24);
        let inlined = ["touch (include/linux/gpio.h:3) inlined", "fake_remove (module/gpio-fake.c:7)"];
        assert!(all.iter().any(|lines| *lines == inlined), "{debug:?}: {all:#?}");
        // Of another section, which begins at the same offset.
        let all = all_of(&symbolizer, "fake_exit", Some("gpio_fake"), 8);
        assert!(
            all.iter().any(|lines| lines.last().is_some_and(|line| line == "fake_exit (module/gpio-fake.c:4)")),
            "{all:?}"
        );
        assert_eq!(symbolizer.notes(), [""; 0]);
    }
}

#[test]
fn a_call_is_where_it_was_made_and_not_where_it_returns_to() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    // The call of panic() is the last thing in gpiochip_remove(), and what it returns to is another line.
    let (start, size) = built.nm("vmlinux")["gpiochip_remove"][0];
    let code = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(built.path("vmlinux")).output().unwrap();
    let code = String::from_utf8(code.stdout).unwrap();
    let calls: Vec<u64> = code
        .lines()
        .skip_while(|line| !line.contains("<gpiochip_remove>:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(":")?.0.trim().parse::<String>().ok())
        .map(|address| u64::from_str_radix(&address, 16).unwrap() - start)
        .collect();
    let is_call = |offset: &u64| code.contains(&format!("{:x}:\tcall ", start + offset));
    let returns: Vec<u64> = calls.windows(2).filter(|pair| is_call(&pair[0])).map(|pair| pair[1]).collect();
    let lines = |is_return| -> Vec<Option<u32>> {
        let place = |offset| Place {
            function: "gpiochip_remove".into(),
            offset,
            size: Some(size),
            module: None,
            build_id: None,
        };
        returns.iter().map(|&offset| symbolizer.frames(&place(offset), is_return).frames()[0].line).collect()
    };
    assert_eq!(lines(true), [Some(13), Some(14), Some(15)]);
    assert_ne!(lines(false), [Some(13), Some(14), Some(15)]);
}

#[test]
fn functions_of_one_name_are_told_apart_by_their_size_or_not_at_all() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    let in_file = |place: &Place| match symbolizer.frames(place, false) {
        Located::Found(frames) => frames[0].line_of_file(),
        other => format!("{other:?}"),
    };
    let both = [in_file(&built.place("same_name", 0, 0)), in_file(&built.place("same_name", 1, 0))];
    assert!(both.contains(&"drivers/gpio/one.c:4".into()) && both.contains(&"drivers/gpio/two.c:3".into()), "{both:?}");
    let place = built.place("same_size", 0, 0);
    let Located::Ambiguous(all) = symbolizer.frames(&place, false) else { panic!("{}", in_file(&place)) };
    assert_eq!(all.len(), 2);
    let text = symbolizer.annotate(&format!(" {place}"));
    assert!(text.contains("(one of 2 functions of this name: drivers/gpio/"), "{text}");
    let unsized_place = Place { size: None, ..built.place("same_name", 0, 0) };
    assert!(matches!(symbolizer.frames(&unsized_place, false), Located::Ambiguous(_)));
}

#[test]
fn what_is_not_known_is_said_so() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    let unknown = |text: &str| match symbolizer.frames(&Place::parse(text).unwrap(), true) {
        Located::Unknown(unknown) => Some(unknown),
        _ => None,
    };
    assert_eq!(unknown("nobody+0x1/0x2"), Some(Unknown::NoFunction));
    assert_eq!(unknown("gpiochip_remove+0x1/0x2222"), Some(Unknown::OtherSize));
    assert_eq!(unknown("gpiochip_remove+0xffffffffffffffff"), Some(Unknown::OtherSize));
    assert_eq!(unknown("f+0x1/0x2 [other]"), Some(Unknown::NoFile));
    assert_eq!(unknown("fake_remove+0x1/0xffffffffffff0000 [gpio_fake]"), None);
}

/// Line numbers of binutils for every address of a file, innermost first.
fn binutils(file: &Path, addresses: &[u64]) -> Vec<Vec<(String, String)>> {
    let mut command = Command::new("addr2line");
    command.args(["-a", "-i", "-f", "-e"]).arg(file).args(addresses.iter().map(|address| format!("{address:#x}")));
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let mut all = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(head) = lines.next() {
        assert!(head.starts_with("0x"), "{head}");
        let mut frames = Vec::new();
        while let Some(function) = lines.next_if(|line| !line.starts_with("0x")) {
            let place = lines.next().unwrap().split(" (discriminator").next().unwrap().to_owned();
            frames.push((function.to_owned(), place));
        }
        all.push(frames);
    }
    all
}

#[test]
fn binutils_says_the_same_of_every_address() {
    let built = Built::new(&["-g"]);
    let symbolizer = built.symbolizer();
    let image = symbolizer.vmlinux.as_ref().unwrap();
    let functions = built.nm("vmlinux");
    let addresses: Vec<u64> = functions
        .iter()
        .filter(|(name, _)| !name.starts_with("__") && *name != "_etext")
        .flat_map(|(_, places)| places)
        .flat_map(|(address, size)| *address..address + (*size).min(16))
        .collect();
    let mut compared = 0;
    for (address, theirs) in addresses.iter().zip(binutils(&built.path("vmlinux"), &addresses)) {
        let (_, ours) = image.at(*address, false).unwrap();
        let ours: Vec<_> =
            ours.iter().filter_map(|frame| Some((frame.function.clone()?, frame.line_of_file()))).collect();
        let root = built.folder.path().canonicalize().unwrap().display().to_string() + "/";
        let name = |(function, place): (String, String)| {
            (function, paths::join("", place.strip_prefix(&root).unwrap_or(&place)))
        };
        let theirs: Vec<_> = theirs.into_iter().map(name).filter(|(_, place)| !place.contains("??")).collect();
        if !theirs.is_empty() && !ours.is_empty() {
            compared += 1;
            assert_eq!(ours, theirs, "{address:#x}");
        }
    }
    assert!(compared > 50, "{compared}");
}
